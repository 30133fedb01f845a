"""The nearest centroid of many vectors: products and their maximum in registers, no matrix of distances in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.vector_ops import keep_best
from search_stage.kernels.widths import BEST_LANES, BEST_ROWS, BEST_VECTORS
from store.compiled import kernel, read_only

if TYPE_CHECKING:
    import numpy.typing as npt

    from store.types import F32

_ROWS_AT_ONCE = 32 * BEST_ROWS
_COLUMNS = BEST_LANES * BEST_VECTORS


def nearest_centroid(vectors: F32, centroids: F32) -> npt.NDArray[np.uint16]:
    """Gives the nearest centroid of each vector under the Euclidean distance.

    Where two are equally near up to rounding it may be either.

    Args:
        vectors: Finite, of norms up to `LARGEST_NORM`. (N, d)
        centroids: As `vectors`, at least one, at most `MAX_CLUSTERS`. (K, d)

    Returns:
        Rows of `centroids`. (N,)
    """
    nearest = np.empty(len(vectors), np.uint16)
    _find_nearest(read_only(np.ascontiguousarray(vectors)), _blocks_of(centroids), nearest)
    return nearest


def _blocks_of(centroids: F32) -> F32:
    """Lays out centroids as blocks of columns, under -|c|^2 / 2, with which a product becomes a score.

    The nearest centroid's is highest. Columns that fill up the last block score -inf.

    Args:
        centroids: (K, d)

    Returns:
        A new array. (blocks, 1 + d, columns of a block)
    """
    count, dim = centroids.shape
    num_blocks = -(-count // _COLUMNS)
    rows = np.zeros((num_blocks * _COLUMNS, 1 + dim), np.float32)
    rows[:count, 0] = -0.5 * np.einsum("kd,kd->k", centroids, centroids, dtype=np.float64)
    rows[count:, 0] = -np.inf
    rows[:count, 1:] = centroids
    return np.ascontiguousarray(rows.reshape(num_blocks, _COLUMNS, 1 + dim).transpose(0, 2, 1))


@kernel
def _find_nearest(points: F32, blocks: F32, nearest: npt.NDArray[np.uint16]) -> None:
    """Writes the number of the column that scores highest, the first of equal ones.

    Points are copied: `keep_best` reads `BEST_ROWS` of them, also where fewer are left.

    Args:
        points: (N, d)
        blocks: See `_blocks_of`.
        nearest: Mutated. (N,)
    """
    rows = np.zeros((_ROWS_AT_ONCE, points.shape[1]), np.float32)
    best = np.empty((_ROWS_AT_ONCE, BEST_LANES), np.float32)
    which = np.zeros((_ROWS_AT_ONCE, BEST_LANES), np.int32)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, len(points) - start)
        for row in range(count):
            for column in range(points.shape[1]):
                rows[row, column] = points[start + row, column]
            for lane in range(BEST_LANES):
                best[row, lane] = -np.inf
        for block in range(len(blocks)):
            for row in range(0, count, BEST_ROWS):
                keep_best(rows, row, blocks, block, best, which)
        for row in range(count):
            highest, column = best[row, 0], which[row, 0] * BEST_LANES
            for lane in range(1, BEST_LANES):
                other = which[row, lane] * BEST_LANES + lane
                if best[row, lane] > highest or (best[row, lane] == highest and other < column):
                    highest, column = best[row, lane], other
            nearest[start + row] = column
