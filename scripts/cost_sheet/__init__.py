"""Parts of `scripts.cost`."""
