"""Parts of `scripts.bench_store`: what the behavior store costs, in time, memory and disk."""
