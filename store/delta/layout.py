"""How the delta is laid out: its sub-databases, their keys and the small values. `FORMAT.md` has it in full."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from store.delta.checksum import SealedNumber, seal, unseal
from store.errors import InputError
from store.files.environment import MAX_KEY_BYTES
from store.types import encoded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from store.fields import FieldKind, FieldKinds
    from store.files.environment import Database, Environment, Transaction
    from store.types import U64, NameKind

DELTA_FOLDER = "delta"
LOCK_FILE = "writer.lock"
FORMAT = 1
ADVICE = "restore the delta from a backup"
"""What to do about a damaged one."""
MAP_SIZE_BYTES = 64 << 30
"""Address space, not disk; set once, because a map cannot grow while others use it."""
MAX_READERS = 1024

SEGMENT_BITS = 16
"""Events stand by the upper bits of their sequence number first, then by user. So a commit touches few pages, however
long the delta is, and what is trimmed stands together; a read of a user looks once into each segment."""
EVENT_KEY_BYTES = 16

META_FORMAT = b"format"
META_SEQUENCE = b"sequence"
META_WORDS = b"words"
META_TRIMMED = b"trimmed"

META_NAMES = frozenset({META_FORMAT, META_SEQUENCE, META_WORDS, META_TRIMMED})

NUMBER = SealedNumber()
"""Values of `meta`."""
_TOMBSTONE = struct.Struct("<Qq")  # sequence number, time of the deletion

NAME_BYTES: dict[NameKind, bytes] = {"user": b"u", "item": b"i", "category": b"c", "value": b"v"}

DOMAIN = b"d"
ACTION = b"a"
SCENE = b"s"
FIELD_BYTES: dict[FieldKind, bytes] = {"id": b"f", "number": b"n"}
"""Kinds of words."""


@dataclass(frozen=True, slots=True)
class DeltaDatabases:
    """Handles of the sub-databases."""

    events: Database
    deleted: Database
    words: Database
    names: Database
    offsets: Database
    meta: Database

    @staticmethod
    def open(environment: Environment, *, create: bool) -> DeltaDatabases:
        """Opens every sub-database.

        Raises:
            CorruptGenerationError: One is not there, and not to be created.
        """
        return DeltaDatabases(
            *(environment.open_db(field.name.encode(), create=create) for field in fields(DeltaDatabases))
        )

    def number(self, transaction: Transaction[bytes], name: bytes) -> int:
        """Gives a number of `meta`, 0 where it is not there."""
        value = transaction.get(name, db=self.meta)
        return 0 if value is None else int(NUMBER.unpack(value)[0])


NUM_DATABASES = len(fields(DeltaDatabases))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """The deletion of a user."""

    sequence: int
    """Events with a number up to this one are gone."""
    deleted_ms: int
    """Events up to this time never come back, milliseconds UTC."""

    def pack(self, key: bytes) -> bytes:
        """Gives the value for the key of a user."""
        return seal(key, _TOMBSTONE.pack(self.sequence, self.deleted_ms))

    @staticmethod
    def unpack(key: bytes, value: bytes) -> Tombstone:
        """Reads the value that stands under a key; raises `CorruptRecordError`."""
        sequence, deleted_ms = _TOMBSTONE.unpack(unseal(key, value))
        return Tombstone(sequence=sequence, deleted_ms=deleted_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaWords:
    """Names behind the small codes of the delta; the code is the position. They only ever grow, but for a clearing."""

    version: int
    """Another one, other words."""
    domains: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    fields: FieldKinds
    """Name and kind of each side-info field, here in the order of the codes."""


NO_WORDS = DeltaWords(version=0, domains=(), actions=(), scenes=(), fields=())


def decode_words(version: int, items: Iterable[tuple[bytes, bytes]]) -> DeltaWords:
    """Gives the words of the sub-database `words`, whose items come in the order of their keys."""
    found: dict[bytes, list[str]] = {DOMAIN: [], ACTION: [], SCENE: []}
    by_code: dict[int, tuple[str, FieldKind]] = {}
    for key, value in items:
        if key[:1] in found:
            found[key[:1]].append(unseal(key, value).decode())
        else:
            kind: FieldKind = "id" if key[:1] == FIELD_BYTES["id"] else "number"
            by_code[int.from_bytes(key[1:], "big")] = (unseal(key, value).decode(), kind)
    return DeltaWords(
        version=version,
        domains=tuple(found[DOMAIN]),
        actions=tuple(found[ACTION]),
        scenes=tuple(found[SCENE]),
        fields=tuple(by_code[code] for code in sorted(by_code)),
    )


def word_key(kind: bytes, code: int) -> bytes:
    """Gives the key of a word of a kind."""
    return kind + code.to_bytes(2, "big")


def offset_key(source: str) -> bytes:
    """Gives the key under which it stands how far a source has been taken in.

    Raises:
        InputError: The name is longer than a key may be, or no text.
    """
    key = encoded(source, "name")
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise InputError(
            f"name: {len(key)} bytes with the partition, must be 1 to {MAX_KEY_BYTES}; follow the source under a "
            "shorter --name"
        )
    return key


def event_keys(user_keys: U64, sequence: U64) -> list[bytes]:
    """Gives the keys of events: the upper 48 bits of the number, the user, the lower 16 bits. Each (N,)."""
    number = sequence.astype(">u8").view(np.uint8).reshape(-1, 8)
    table = np.empty((len(user_keys), EVENT_KEY_BYTES), np.uint8)
    table[:, :6] = number[:, :6]
    table[:, 6:14] = user_keys.astype(">u8").view(np.uint8).reshape(-1, 8)
    table[:, 14:] = number[:, 6:]
    keys: list[bytes] = table.view(f"V{EVENT_KEY_BYTES}")[:, 0].tolist() if len(table) else []
    return keys


def event_key(sequence: int, user_key: bytes) -> bytes:
    """Gives the key of one event."""
    number = sequence.to_bytes(8, "big")
    return number[:6] + user_key + number[6:]


def segment_prefix(segment: int, user_key: bytes = b"") -> bytes:
    """Gives how the keys of a segment begin, or those of a user in it."""
    return segment.to_bytes(6, "big") + user_key


def split_event_keys(keys: list[bytes]) -> tuple[U64, U64]:
    """Gives user keys and sequence numbers of the keys of events. Each (N,)."""
    table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, EVENT_KEY_BYTES)
    number = np.empty((len(keys), 8), np.uint8)
    number[:, :6] = table[:, :6]
    number[:, 6:] = table[:, 14:]
    users = np.ascontiguousarray(table[:, 6:14]).view(">u8")[:, 0].astype(np.uint64)
    return users, number.view(">u8")[:, 0].astype(np.uint64)
