"""How many values the operations of `vector_ops.py` take at once."""

from __future__ import annotations

from llvmlite import binding

WORD = 64
"""Values behind the bits of a word."""
LANES = 8
"""Partial sums of `lane_product`."""
BEST_ROWS = 6
"""Rows of `keep_best`."""
BEST_LANES = 16
"""Columns of its best scores."""
BEST_VECTORS = 4 if binding.get_host_cpu_features().get("avx512f", False) else 1
"""Vectors of `BEST_LANES` in a block: as many as the sums of all rows have registers for."""
PLACES = 32
"""Values that `count_below` places at once."""
