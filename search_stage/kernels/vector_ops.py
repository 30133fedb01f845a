"""Operations on many numbers at once that the compiler does not find in a loop, for use inside kernels.

Each stands here as the plain Python that defines it, which runs with `NUMBA_DISABLE_JIT=1`; else `vector_code.py` makes
it of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
from numba import config
from numba.extending import intrinsic

from search_stage.kernels.vector_code import CODE
from search_stage.kernels.widths import BEST_LANES, BEST_ROWS, BEST_VECTORS, LANES, PLACES, WORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import F32, I32, U32, AnyArray, Bool

P = ParamSpec("P")
T = TypeVar("T")


def _vectorized(plain: Callable[P, T]) -> Callable[P, T]:
    """Gives what `vector_code.py` makes of an operation, or the operation itself where nothing is compiled."""
    made: Callable[P, T] = plain if config.DISABLE_JIT else intrinsic(CODE[plain.__name__])  # type: ignore[attr-defined]
    return made


def _word_of(bits: Bool) -> np.uint64:
    word: np.uint64 = np.packbits(bits, bitorder="little").view(np.uint64)[0]
    return word


@_vectorized
def at_least(values: F32, start: int, bar: np.float32) -> np.uint64:
    """Gives a word whose bit k says `values[start + k] >= bar`, for 64 values of a contiguous array."""
    return _word_of(values[start : start + WORD] >= bar)


@_vectorized
def below(values: U32, start: int, bar: np.uint32) -> np.uint64:
    """Gives a word whose bit k says `values[start + k] < bar`, for 64 values of a contiguous array."""
    return _word_of(values[start : start + WORD] < bar)


@_vectorized
def lowest_bit(word: np.uint64) -> int:
    """Gives the number of the lowest bit that is set; one must be."""
    return (int(word) & -int(word)).bit_length() - 1


@_vectorized
def count_below(values: U32, count: int, start: int, out: U32) -> None:
    """Writes how many of the first `count` values are below each of the `PLACES` from `start` on, to the same place."""
    out[start : start + PLACES] = np.sum(values[:count, None] < values[start : start + PLACES], axis=0)


@_vectorized
def lane_product(left: F32, i: int, right: F32, j: int) -> np.float32:
    """Gives `score_pairs(left[i : i + 1], right[j : j + 1])[0]`, of contiguous tables."""
    products = left[i] * right[j]
    lanes = [np.cumsum(products[lane::LANES])[-1] for lane in range(min(LANES, len(products)))]
    return np.float32(np.cumsum([np.float32(0), *lanes], dtype=np.float32)[-1])


@_vectorized
def prefetch(values: AnyArray, index: tuple[int, ...]) -> None:
    """Does nothing; the memory at `values[index]`, 64 bytes of it, is about to be read."""


@_vectorized
def keep_best(points: F32, row: int, blocks: F32, block: int, best: F32, which: I32) -> None:
    """Keeps the best of the scores `blocks[block, 0] + points[row + r] @ blocks[block, 1:]`, r below `BEST_ROWS`.

    They are compared with `best[row + r]` in parts of `BEST_LANES`. Where that of part v is higher, it is put there,
    and `block * BEST_VECTORS + v` in `which[row + r]`. All tables are contiguous. Products may be rounded before they
    are added, or not.
    """
    rows = slice(row, row + BEST_ROWS)
    scores = (blocks[block, 0] + points[rows] @ blocks[block, 1:]).reshape(BEST_ROWS, BEST_VECTORS, BEST_LANES)
    for part in range(BEST_VECTORS):
        is_higher = scores[:, part] > best[rows]
        best[rows][is_higher] = scores[:, part][is_higher]
        which[rows][is_higher] = block * BEST_VECTORS + part
