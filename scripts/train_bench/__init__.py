"""Parts of `python -m scripts.bench_train`."""
