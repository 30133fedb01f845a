"""From tables, or from a generation and its delta, to the next generation."""
