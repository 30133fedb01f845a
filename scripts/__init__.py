"""Offline jobs, demos and benchmarks: the composition roots that join store, search and model."""

import os

# Before anything imports torch or faiss. These jobs run side by side in processes: threads inside one would only fight
# for the cores (two processes of two threads on two cores took several times as long).
os.environ.setdefault("OMP_NUM_THREADS", "1")
