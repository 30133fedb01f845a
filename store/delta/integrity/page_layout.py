"""Pages of an LMDB file, read as bytes: nothing in a damaged file can do more than fail a check here.

A page, numbers little-endian: its number u64, 2 bytes, kind u16, `lower` u16, `upper` u16; from byte 16 to `lower` the
places u16 of its nodes, which fill it from `upper` to the end without a gap. A node: low u16, high u16, flags u16, size
of the key u16, key, value, and a zero where that makes it even. In a leaf low and high are the size of the value; in a
branch low, high and flags are the number of a page. Two meta pages, 0 and 1, take turns as the head of the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from store.closing import Closing
from store.lists import positions_within, spans

if TYPE_CHECKING:
    from pathlib import Path

    from store.types import I64, U8, U16, U64, Bool

BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
"""Kinds of pages."""
IS_FAR, IS_TREE = 1, 2
"""Flags of nodes: the value stands on pages of its own; the value is the head of a tree."""
HEAD_BYTES = 16
NODE_HEAD_BYTES = 8
NO_ROOT = 2**64 - 1
"""Root of a tree that is empty."""

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META_PAGE = struct.Struct("<IIQQ48s48sQQ")
_TREE = struct.Struct("<IHHQQQQQ")
TREE_BYTES = _TREE.size
_MAX_UNWRITTEN = 1 << 20
_INTEGER_KEYS = 8
"""Flag of the list of free pages, whose keys are numbers of this machine."""


class PageError(Exception):
    """A page is damaged; the message says how."""


def require(condition: bool, problem: str) -> None:
    """Raises `PageError` unless a condition holds."""
    if not condition:
        raise PageError(problem)


@dataclass(frozen=True, slots=True)
class Tree:
    """The head of a tree."""

    pad: int
    flags: int
    depth: int
    num_branches: int
    num_leaves: int
    num_overflows: int
    num_entries: int
    root: int

    @staticmethod
    def parse(data: bytes) -> Tree:
        """Reads one of 48 bytes."""
        return Tree(*_TREE.unpack(data))


@dataclass(frozen=True, slots=True)
class Meta:
    """A meta page: the file as one transaction left it."""

    free: Tree
    main: Tree
    last_page: int
    transaction: int

    @staticmethod
    def parse(data: bytes, number: int) -> Meta:
        """Reads the meta page with that number; raises `PageError`."""
        page, kind = struct.unpack_from("<QxxH", data)
        magic, version, _, _, free, main, last_page, transaction = _META_PAGE.unpack_from(data, HEAD_BYTES)
        meta = Meta(free=Tree.parse(free), main=Tree.parse(main), last_page=last_page, transaction=transaction)
        require((page, kind, magic, version) == (number, META, _MAGIC, _VERSION), f"meta page {number} is none")
        flags = (meta.free.flags, meta.main.flags)
        require(flags == (_INTEGER_KEYS, 0), f"meta page {number} has flags {flags}")
        require(transaction % 2 == number or transaction == 0, f"meta page {number} is of transaction {transaction}")
        return meta


class PageFile(Closing):
    """A file, page by page; a context manager. It is not mapped, so that it may be cut short or damaged."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDONLY)
        self.page_size = os.sysconf("SC_PAGE_SIZE")
        self.num_pages = os.fstat(self._descriptor).st_size // self.page_size

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def metas(self) -> list[Meta]:
        """Gives both meta pages; raises `PageError`."""
        size = self.page_size
        data = os.pread(self._descriptor, 2 * size, 0)
        require(len(data) == 2 * size, "it is shorter than two pages")
        metas = [Meta.parse(data[number * size : (number + 1) * size], number) for number in (0, 1)]
        require([meta.free.pad for meta in metas] == [size, size], f"its pages are not of {size} bytes")
        first, second = (meta.transaction for meta in metas)
        require(abs(first - second) <= 1, f"its meta pages are of transactions {first} and {second}")
        # Pages at the end that were free before they were ever written are not in the file.
        limit = 2 * self.num_pages + _MAX_UNWRITTEN
        require(all(meta.last_page < limit for meta in metas), f"it says that it has more than {limit} pages")
        return metas

    def read(self, numbers: I64) -> U8:
        """Gives some pages, (N, page size); raises `PageError`."""
        size = self.page_size
        data = b"".join([os.pread(self._descriptor, size, number * size) for number in numbers.tolist()])
        require(len(data) == len(numbers) * size, "pages in use are missing at its end")
        return np.frombuffer(data, np.uint8).reshape(-1, size)

    def read_far(self, number: int, size: int) -> tuple[bytes, int]:
        """Gives a value that stands on pages of its own, and how many these are; raises `PageError`."""
        data = os.pread(self._descriptor, HEAD_BYTES + size, number * self.page_size)
        require(len(data) == HEAD_BYTES + size, "pages in use are missing at its end")
        page, kind, count = struct.unpack_from("<QxxHI", data)
        require((page, kind) == (number, OVERFLOW), f"page {number} is not the long value that it should be")
        require(count * self.page_size >= len(data), f"the long value on page {number} is cut short")
        return data[HEAD_BYTES:], count


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of some pages of one tree, in the order of their keys."""

    data: U8
    """The pages, one after another."""
    at: I64
    """Where each node begins in `data`. (N,)"""
    low: I64
    """The size of the value. (N,)"""
    flags: I64
    key_size: I64
    count: I64
    """How many of them each page has. (pages,)"""
    far: dict[int, bytes] = field(default_factory=dict)
    """By row, the values that stand on pages of their own, when they have been read."""

    def __len__(self) -> int:
        return len(self.at)

    def keys(self, num_words: int) -> U64:
        """Gives keys to compare: 8 bytes a word, big-endian, zeros behind the end; then the size; (N, words + 1)."""
        out = np.zeros((len(self), num_words + 1), np.uint64)
        out[:, -1] = self.key_size
        start = self.at + NODE_HEAD_BYTES
        size = int(self.key_size[0])
        if size % 8 == 0 and (self.key_size == size).all():
            halves = self.data.view("<u2")[(start // 2)[:, None] + np.arange(size // 2)]
            out[:, : size // 8] = halves.view(">u8")
            return out
        places = np.arange(8 * num_words)
        found = self.data[np.minimum(start[:, None] + places, len(self.data) - 1)]
        out[:, :-1] = np.where(places < self.key_size[:, None], found, np.uint8(0)).view(">u8")
        return out

    def key(self, row: int) -> bytes:
        """Gives a key."""
        start = int(self.at[row]) + NODE_HEAD_BYTES
        return self.data[start : start + int(self.key_size[row])].tobytes()

    def value(self, row: int) -> bytes:
        """Gives the value of a node of a leaf."""
        return self.far[row] if row in self.far else self._behind_key(row, int(self.low[row]))

    def far_page(self, row: int) -> int:
        """Gives the first page of a value that is far."""
        return int.from_bytes(self._behind_key(row, 8), "little")

    def _behind_key(self, row: int, size: int) -> bytes:
        start = int(self.at[row] + self.key_size[row]) + NODE_HEAD_BYTES
        return self.data[start : start + size].tobytes()

    def even_values(self, rows: Bool) -> U16:
        """Gives the values of some nodes of leaves, one after another; none is far, keys and values have even sizes."""
        sizes = self.low[rows] // 2
        starts = (self.at[rows] + self.key_size[rows] + NODE_HEAD_BYTES) // 2
        values: U16 = self.data.view("<u2")[spans(starts, sizes)[0]]
        return values


def find_nodes(name: str, pages: U8, numbers: I64, kind: int) -> Nodes:
    """Gives the nodes of some pages, each of which must be whole.

    Args:
        name: Of the tree, for messages.
        pages: (N, page size)
        numbers: Of the pages. (N,)
        kind: Of all of them.

    Raises:
        PageError: A page is damaged.
    """
    size = pages.shape[1]
    words = pages.view("<u2")
    require(np.array_equal(pages[:, :8].copy().view("<u8")[:, 0], numbers), f"a page of {name} has another number")
    require(bool((words[:, 5] == kind).all()), f"a page of {name} is of another kind")
    lower, upper = words[:, 6].astype(np.int64), words[:, 7].astype(np.int64)
    fits = (lower > HEAD_BYTES) & (lower % 2 == 0) & (lower <= upper) & (upper < size)
    require(bool(fits.all()), f"a page of {name} is empty or has wrong bounds")
    count = (lower - HEAD_BYTES) // 2
    page = np.repeat(np.arange(len(pages)), count)
    place = words[page, HEAD_BYTES // 2 + positions_within(count)].astype(np.int64)
    inside = (place >= upper[page]) & (place % 2 == 0) & (place <= size - NODE_HEAD_BYTES)
    require(bool(inside.all()), f"a page of {name} has a node outside")
    at = page * size + place
    low, high, flags, key_size = (pages.reshape(-1).view("<u2")[at // 2 + word].astype(np.int64) for word in range(4))
    low += high << 16
    value = np.where(flags & IS_FAR, 8, low) if kind == LEAF else 0
    taken = NODE_HEAD_BYTES + key_size + value
    _check_filled(name, page, place, taken + taken % 2, upper, size)
    return Nodes(data=pages.reshape(-1), at=at, low=low, flags=flags, key_size=key_size, count=count)


def _check_filled(name: str, page: I64, place: I64, taken: I64, upper: I64, size: int) -> None:
    """Checks that the nodes of each page follow one another from `upper` to the end of the page."""
    order = np.lexsort((place, page))
    page, start = page[order], place[order]
    end = start + taken[order]
    is_first = np.append(True, page[1:] != page[:-1])
    expected = np.where(is_first, upper[page], np.append(0, end[:-1]))
    is_last = np.append(is_first[1:], True)
    whole = bool((start == expected).all()) and bool((end[is_last] == size).all())
    require(whole, f"the nodes of a page of {name} have other sizes than places")
