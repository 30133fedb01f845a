"""Training: impressions, point-in-time retrieval through the same searcher that serves, and the optimisation loop."""
