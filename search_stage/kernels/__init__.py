"""How kernels are compiled, and small ones that many call: the only folder that imports numba and llvmlite."""
