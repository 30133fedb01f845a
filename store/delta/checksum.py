"""Small values with a checksum behind them, where nothing else would tell a flipped bit."""

from __future__ import annotations

import struct

import xxhash

from store.errors import CorruptRecordError

SEAL_BYTES = 4
_NUMBER = struct.Struct("<Q")


def seal(key: bytes, value: bytes) -> bytes:
    """Gives a value with the checksum of it and of its key behind it: lower half of xxh3-64, little-endian."""
    return value + xxhash.xxh3_64_digest(key + value)[: -SEAL_BYTES - 1 : -1]


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Gives the value that was sealed.

    Raises:
        CorruptRecordError: Key or value is damaged.
    """
    value = sealed[:-SEAL_BYTES]
    if seal(key, value) != sealed:
        raise CorruptRecordError(
            f"the entry {key.hex()} of the delta does not match its checksum: restore the delta from a backup"
        )
    return value


class SealedNumber:
    """Packs an unsigned 64-bit number and its checksum, whatever its key."""

    @staticmethod
    def pack(number: int) -> bytes:
        """Gives its 12 bytes."""
        return seal(b"", _NUMBER.pack(number))

    @staticmethod
    def unpack(sealed: bytes) -> tuple[int]:
        """Gives the number; raises `CorruptRecordError`."""
        (number,) = _NUMBER.unpack(unseal(b"", sealed))
        return (number,)
