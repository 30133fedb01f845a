"""Promises about the repository itself: README, docs, presets, layout."""
