"""What needs a GPU: `make test-gpu`, skipped elsewhere."""
