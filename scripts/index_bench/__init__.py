"""Parts of `python -m scripts.bench_index`."""
