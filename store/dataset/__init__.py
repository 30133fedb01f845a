"""The input contract (docs/data.md) in code: reads what is handed in, and refuses by file, line and reason."""
