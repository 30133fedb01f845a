"""Live events behind a generation: one small LMDB environment, one writer, many readers."""
