"""Small kernels that many call; beside `store/compiled.py` all that imports numba and llvmlite."""
