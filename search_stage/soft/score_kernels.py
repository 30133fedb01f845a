"""The score of two vectors, in compiled code, and the packed keys that selection compares.

A key is packed into 64 bits so that one comparison orders keys: the score, then the newest behavior::

    63            32 31             0
    score, inverted   rank, inverted        smaller is better
"""

# To the compiler an element of an array is a number; to NumPy's types it may be an array.
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_stage.kernels.vector_ops import lane_product
from store.compiled import kernel

if TYPE_CHECKING:
    from store.types import F32, I32, I64, U32

_ONES = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)
_RANK_BITS = np.uint64(32)


@kernel
def score(left: F32, i: int, right: F32, j: int) -> np.float32:
    """Gives the inner product of row i of one table and row j of another: the definition of a score.

    Eight partial sums, the k-th of the products at k, k + 8, k + 16 ..., added up in their order; each product and each
    sum is rounded to float32, and a negative zero becomes zero.

    Args:
        left: (n, d)
        i: Row of `left`.
        right: (m, d)
        j: Row of `right`.
    """
    return lane_product(left, i, right, j)


@kernel
def pack(value: np.float32, rank: int, bits: U32, cell: F32) -> np.uint64:
    """Packs a score and the position of the newest behavior; `bits` and `cell` are one and the same 4 bytes."""
    cell[0] = value
    pattern = bits[0]
    ascending = ~pattern if pattern & _SIGN else pattern | _SIGN
    return (np.uint64(~ascending) & _ONES) << _RANK_BITS | (_ONES - np.uint64(rank))


@kernel
def score_of(packed: np.uint64, bits: U32, cell: F32) -> np.float32:
    """Undoes `pack`; `bits` and `cell` are one and the same 4 bytes."""
    pattern = np.uint32(~np.uint32((packed >> _RANK_BITS) & _ONES))
    bits[0] = pattern ^ _SIGN if pattern & _SIGN else ~pattern
    value: np.float32 = cell[0]
    return value


@kernel
def score_listed(queries: F32, vectors: F32, query: I64, start: I64, position: I32, out: F32) -> None:
    """Scores the behaviors of some lists.

    Args:
        queries: (Q, d)
        vectors: Of the behaviors. (U, d)
        query: Of each list. (G,)
        start: Where each list starts in `position`, and the end. (G + 1,)
        position: Behavior of each entry. (M,)
        out: Mutated. (M,)
    """
    for at in range(len(query)):
        for entry in range(start[at], start[at + 1]):
            out[entry] = score(queries, query[at], vectors, position[entry])
