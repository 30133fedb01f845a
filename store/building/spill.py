"""Events on disk between reading and building: cut into partitions by the user's key, so that each fits in memory.

A part is one folder, made by one reader of one piece of the input::

    part-0003/
      rows.bin     blocks; a block holds some rows ordered by partition, column after column
      index.npy    (blocks, partitions + 1) int64: where each partition starts among the rows of the block
      part.json    what the part holds, with the xxh3 of every other file; written last: a part without it is not done
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from store.dataset.oddities import Oddity
from store.errors import BadRow, translate_os_errors
from store.events import ROW_TYPES, STREAMS_PER_DOMAIN, EventRows
from store.fields import ID, VALUE_TYPES, FieldKinds, value_type_of
from store.files.arrays import write_npy
from store.keys import mix
from store.types import NO_ID, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.types import I64, AnyArray

PART_FILE = "part.json"
_ROWS_FILE = "rows.bin"
_INDEX_FILE = "index.npy"
_CHECK_BYTES = 1 << 20


class SpillPart(BaseModel):
    """What one part holds. Codes of words are the part's own: positions in its lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rows: int
    keyed: bool
    """Whether the rows have a column of event ids."""
    has_keys: bool
    """Whether any row has an event id."""
    kinds: FieldKinds
    domains: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    streams: tuple[int, ...]
    """Streams that occur, in the part's codes."""
    used_scenes: tuple[int, ...]
    largest_item: int
    largest_category: int
    """-1 = no event has one."""
    largest_fields: tuple[int, ...]
    """Largest id of each side-info field; -1 = none, or a field of numbers."""
    first_ms: int | None
    """Time of the oldest row; None = there is none."""
    last_ms: int | None
    bad_rows: tuple[BadRow, ...]
    odd: tuple[Oddity, ...]
    size: int
    """Bytes of `rows.bin`."""
    xxh3: str
    """Of `rows.bin`."""
    others: dict[str, str]
    """xxh3 of every other file of the folder: the index, and names."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Words of all codes, also of those that only refused rows use."""
        return Vocabulary(domains=self.domains, actions=self.actions, scenes=self.scenes)


class SpillWriter:
    """Writes one part; a context manager. Leaving it by an error leaves a part that is not done."""

    def __init__(self, folder: Path, partition_bits: int, kinds: FieldKinds) -> None:
        self._folder = folder
        self._bits = partition_bits
        self._kinds = kinds
        self._index: list[I64] = []
        self._hash = xxhash.xxh3_64()
        self._size = self._num_rows = 0
        self._keyed = self._has_keys = False
        self._streams = np.zeros(1 << 16, np.bool_)
        self._scenes = np.zeros(1 << 16, np.bool_)
        self._span: tuple[int, int] | None = None
        self._largest = [-1, -1, *(-1 for _ in kinds)]

    def __enter__(self) -> Self:
        with translate_os_errors(f"{self._folder}: cannot make a work folder"):
            if self._folder.exists():  # what a run left that was killed, its names too
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True)
            self._file = (self._folder / _ROWS_FILE).open("wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, rows: EventRows) -> None:
        """Adds rows; the order of the input is kept within each user. Every call must agree on having event ids.

        Raises:
            StoreIOError: The disk is full, or not writable.
        """
        if not len(rows):
            return
        assert not self._num_rows or self._keyed == (rows.key is not None), "all rows of a part have a key, or none"
        self._keyed = rows.key is not None
        self._has_keys |= rows.key is not None and bool((rows.key != np.uint64(NO_ID)).any())
        partition = partition_of(rows.user, self._bits)
        order = np.argsort(partition, kind="stable")
        self._index.append(np.searchsorted(partition[order], np.arange((1 << self._bits) + 1)))
        with translate_os_errors(f"{self._folder}: cannot write"):
            for column in _columns(rows):
                self._put(column[order])
        self._num_rows += len(rows)
        first, last = int(rows.timestamp_ms.min()), int(rows.timestamp_ms.max())
        self._span = (first, last) if self._span is None else (min(first, self._span[0]), max(last, self._span[1]))
        self._streams[rows.stream] = True
        self._scenes[rows.scene] = True
        for at, column in enumerate((rows.item, rows.category, *rows.fields)):
            self._largest[at] = max(self._largest[at], largest_id(column))

    def finish(
        self,
        domains: tuple[str, ...],
        actions: tuple[str, ...],
        scenes: tuple[str, ...],
        bad_rows: tuple[BadRow, ...] = (),
        odd: tuple[Oddity, ...] = (),
    ) -> SpillPart:
        """Declares the part done.

        Args:
            domains: Word of each domain code.
            actions: Word of each action code.
            scenes: Word of each scene code.
            bad_rows: Rows of the input that were refused.
            odd: What is odd about the others.
        """
        index = np.array(self._index, np.int64).reshape(len(self._index), (1 << self._bits) + 1)
        with translate_os_errors(f"{self._folder}: cannot write"):
            write_npy(self._folder / _INDEX_FILE, index)
            others = {path.name: _digest(path)[1] for path in self._folder.iterdir() if path.name != _ROWS_FILE}
        part = SpillPart(
            num_rows=self._num_rows,
            keyed=self._keyed,
            has_keys=self._has_keys,
            kinds=self._kinds,
            domains=domains,
            actions=actions,
            scenes=scenes,
            streams=tuple(np.flatnonzero(self._streams).tolist()),
            used_scenes=tuple(np.flatnonzero(self._scenes).tolist()),
            largest_item=self._largest[0],
            largest_category=self._largest[1],
            largest_fields=tuple(self._largest[2:]),
            first_ms=None if self._span is None else self._span[0],
            last_ms=None if self._span is None else self._span[1],
            bad_rows=bad_rows,
            odd=odd,
            size=self._size,
            xxh3=self._hash.hexdigest(),
            others=others,
        )
        with translate_os_errors(f"{self._folder}: cannot write"):
            temporary = self._folder / f"{PART_FILE}.tmp"
            temporary.write_text(part.model_dump_json(), encoding="utf-8")
            temporary.rename(self._folder / PART_FILE)
        return part

    def _put(self, column: AnyArray) -> None:
        data = np.ascontiguousarray(column).view(np.uint8).data
        self._hash.update(data)
        self._size += len(data)
        while data:  # an unbuffered write may be cut short
            data = data[self._file.write(data) :]


class SpillReader:
    """Reads the rows of one part, one partition at a time; a context manager."""

    def __init__(self, folder: Path, part: SpillPart) -> None:
        self._part = part
        self._folder = folder
        self._index = np.load(folder / _INDEX_FILE)
        # Columns differ from part to part: these rows only show their types.
        self._dtypes = _dtypes(part)

    def read(self, partition: int) -> Iterator[EventRows]:
        """Gives the rows of one partition, block by block, in the order of the input."""
        with translate_os_errors(f"{self._folder}: cannot read"), (self._folder / _ROWS_FILE).open("rb") as file:
            start = 0
            for bounds in self._index:
                first, stop, total = int(bounds[partition]), int(bounds[partition + 1]), int(bounds[-1])
                columns: list[AnyArray] = []
                for dtype in self._dtypes:
                    offset = start + first * dtype.itemsize
                    columns.append(np.frombuffer(_pread(file.fileno(), (stop - first) * dtype.itemsize, offset), dtype))
                    start += total * dtype.itemsize
                if stop > first:
                    yield _rows(columns, keyed=self._part.keyed)


def partition_of(users: AnyArray, bits: int) -> AnyArray:
    """Gives the partition of each user: the high bits of the mixed id, so that partitions are ranges of keys."""
    if bits == 0:
        return np.zeros(len(users), np.uint16)
    return (mix(users) >> np.uint64(64 - bits)).astype(np.uint16)


def finished_part(folder: Path) -> SpillPart | None:
    """Gives a part that an earlier run finished and that is whole; None otherwise."""
    try:
        part = SpillPart.model_validate_json((folder / PART_FILE).read_bytes())
        sound = _digest(folder / _ROWS_FILE) == (part.size, part.xxh3) and all(
            _digest(folder / name)[1] == xxh3 for name, xxh3 in part.others.items()
        )
    except (OSError, ValidationError):
        return None
    return part if sound else None


def _digest(path: Path) -> tuple[int, str]:
    """Gives the size and the xxh3 of a file."""
    digest, size = xxhash.xxh3_64(), 0
    with path.open("rb") as file:
        while block := file.read(_CHECK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def largest_id(column: AnyArray) -> int:
    """Gives the largest id of a column that is not missing; -1 = there is none, or it holds numbers."""
    if value_type_of(column) is not ID or not len(column):
        return -1
    largest = int(column.max())
    if largest == NO_ID:
        largest = int(np.max(column, initial=0, where=column != np.uint64(NO_ID)))
        return largest if largest or bool((column == 0).any()) else -1
    return largest


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            raise OSError(f"{length - len(data)} bytes are missing")
        data += more
    return data


def _columns(rows: EventRows) -> list[AnyArray]:
    return [*(getattr(rows, name) for name in ROW_TYPES), *([] if rows.key is None else [rows.key]), *rows.fields]


def _dtypes(part: SpillPart) -> list[np.dtype[Any]]:
    names = [*ROW_TYPES.values(), *(["u8"] if part.keyed else [])]
    return [*map(np.dtype, names), *(VALUE_TYPES[kind].dtype for _, kind in part.kinds)]


def _rows(columns: list[AnyArray], *, keyed: bool) -> EventRows:
    common: dict[str, Any] = dict(zip(ROW_TYPES, columns, strict=False))
    key, fields = (columns[len(common)], columns[len(common) + 1 :]) if keyed else (None, columns[len(common) :])
    return EventRows(**common, key=key, fields=tuple(fields))


def used_words(part: SpillPart) -> Vocabulary:
    """Gives the words that the rows of a part use; those of refused rows are left out."""
    return Vocabulary(
        domains=tuple(part.domains[code] for code in sorted({s // STREAMS_PER_DOMAIN for s in part.streams})),
        actions=tuple(part.actions[code] for code in sorted({s % STREAMS_PER_DOMAIN for s in part.streams})),
        scenes=tuple(part.scenes[code] for code in part.used_scenes),
    )
