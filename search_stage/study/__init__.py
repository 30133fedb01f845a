"""What search finds, measured on a sample of requests: `lookback-search recall`. See docs/search.md."""
