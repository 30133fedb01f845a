"""Converters from original data files to the input contract (docs/data.md), and what they share."""
