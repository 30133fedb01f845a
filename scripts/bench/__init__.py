"""Benchmarks, one folder or module each: `python -m scripts.bench NAME --json FILE`; what they share is at the root."""
