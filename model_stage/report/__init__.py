"""One self-contained page about a bundle, or about two beside each other: `lookback-model report`."""
