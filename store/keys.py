"""Keys of users: a bijective mix of their ids, so that the order of the keys is the order of a hash.

A partition of users by the high bits of their key is a contiguous range of keys, and however the ids were given out,
the ranges are of about equal size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.types import U64

_MASK = 2**64 - 1
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
"""Source: the finalizer of splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014
(variant 13 of David Stafford's mixers)."""
_FIRST_INVERSE = pow(_FIRST, -1, 2**64)
_SECOND_INVERSE = pow(_SECOND, -1, 2**64)


def mix(ids: U64) -> U64:
    """Gives the keys of users; a new array of the same shape."""
    key = _fold(ids, 30)
    key *= np.uint64(_FIRST)
    key = _fold(key, 27)
    key *= np.uint64(_SECOND)
    return _fold(key, 31)


def unmix(keys: U64) -> U64:
    """Gives the ids of users from their keys: the inverse of `mix`; a new array of the same shape."""
    user = _unfold(keys, 31)
    user *= np.uint64(_SECOND_INVERSE)
    user = _unfold(user, 27)
    user *= np.uint64(_FIRST_INVERSE)
    return _unfold(user, 30)


def mix_one(user: int) -> int:
    """Gives the key of one user, 0 .. 2**64 - 1."""
    key = ((user ^ (user >> 30)) * _FIRST) & _MASK
    key = ((key ^ (key >> 27)) * _SECOND) & _MASK
    return key ^ (key >> 31)


def unmix_one(key: int) -> int:
    """Gives the user of one key: the inverse of `mix_one`."""
    user = ((key ^ (key >> 31) ^ (key >> 62)) * _SECOND_INVERSE) & _MASK
    user = ((user ^ (user >> 27) ^ (user >> 54)) * _FIRST_INVERSE) & _MASK
    return user ^ (user >> 30) ^ (user >> 60)


def user_key(user: int) -> bytes:
    """Gives the LMDB key of one user: 8 bytes, big-endian, so that byte order is the order of `mix`."""
    return mix_one(user).to_bytes(8, "big")


def _fold(values: U64, bits: int) -> U64:
    folded: U64 = values >> np.uint64(bits)
    folded ^= values
    return folded


def _unfold(values: U64, bits: int) -> U64:
    """Undoes `_fold`: two rounds give back all 64 bits, for 3 x 27 > 64."""
    unfolded: U64 = values >> np.uint64(bits)
    unfolded ^= values >> np.uint64(2 * bits)
    unfolded ^= values
    return unfolded
