"""What every kernel is made of: the only folder that imports numba."""
