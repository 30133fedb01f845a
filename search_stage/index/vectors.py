"""Rows of an attention table as they are stored, and as the float32 that all arithmetic is done in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from search_stage.index.layout import VectorType
    from store.types import F32, I64, AnyArray

LARGEST_NORM = 1e18
"""So that no inner product of two rows overflows float32."""

STORED_AS: dict[VectorType, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
}
"""Element type of the file."""

_NEGATIVE_ZERO = np.uint16(0x8000)


def to_stored(vectors: F32, dtype: VectorType) -> AnyArray:
    """Rounds vectors to the nearest number of a type, ties to even; a negative zero becomes zero.

    What float16 cannot hold becomes infinite: the caller checks.

    Args:
        vectors: Finite. (N, d)
        dtype: How to store them.

    Returns:
        A new array of the type `STORED_AS` says. (N, d)
    """
    if dtype == "float32":
        return vectors + np.float32(0)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16).view(np.uint16)
    else:
        bits = np.ascontiguousarray(vectors).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    rounded[rounded == _NEGATIVE_ZERO] = 0
    return rounded.view(STORED_AS[dtype])


def to_float32(stored: AnyArray) -> F32:
    """Gives stored vectors as float32, exactly; the same array where they are that already.

    Args:
        stored: float32, float16, or uint16 = bfloat16. (N, d)
    """
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32, copy=False)


def words(rows: AnyArray) -> np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]:
    """Gives the bits of stored vectors as columns of the widest words that fit.

    Args:
        rows: (N, d)

    Returns:
        A view where `rows` is contiguous. (N, number of words)
    """
    row_bytes = rows.itemsize * rows.shape[1]
    width = next(width for width in (8, 4, 2) if row_bytes % width == 0)
    return np.ascontiguousarray(rows).view(np.dtype(f"u{width}"))


def differing_rows(left: AnyArray, right: AnyArray) -> I64:
    """Gives the rows that are not bitwise the same in both tables, ascending.

    Args:
        left: (N, d)
        right: Of the same type. (N, d)
    """
    left_words, right_words = words(left), words(right)
    # Few differ: to look for single words is faster than to reduce every row.
    return np.unique(np.flatnonzero(left_words.ravel() != right_words.ravel()) // left_words.shape[1])


def norms(vectors: F32) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Gives the Euclidean norm of each row, computed in float64; not finite where a number of the row is not. (N,)."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    result: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt(squares)
    return result
