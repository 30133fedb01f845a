"""Messages and plain columns: both directions of a message stand in one file."""
