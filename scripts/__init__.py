"""Offline jobs, demos and benchmarks: the composition roots that join store, search and model."""
