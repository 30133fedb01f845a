"""What rebuilding an index costs."""
