"""Checks an LMDB file before LMDB walks it: LMDB trusts its file, and one flipped bit can kill the process.

Only what one transaction sees is looked at, so that others may write meanwhile. Every page must lie in the file, have
its own number, be whole and belong to one tree only; keys must ascend, counts agree, and free pages be in no tree. That
finds any flipped bit that matters, but for those in keys and values: of these the caller checks what it can.
Why not in a child process that just reads: docs/adr/0013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from store.delta.integrity.page_layout import (
    BRANCH,
    IS_FAR,
    IS_TREE,
    LEAF,
    NO_ROOT,
    TREE_BYTES,
    Nodes,
    PageError,
    PageFile,
    Tree,
    find_nodes,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from store.delta.integrity.page_layout import Meta
    from store.types import I64, U64, Bool

_BLOCK_PAGES = 1024
_SHORT_WORDS, _LONG_WORDS = 2, 64
"""Keys are of 16 bytes at most, but for those of some sub-databases; LMDB allows 511."""
_MAX_DEPTH = 32


class CheckLeaves(Protocol):
    """Looks at keys and values."""

    def __call__(self, nodes: Nodes) -> str | None:
        """Gives what is wrong with some leaves of a sub-database, None when nothing is."""
        ...


def find_head_damage(file: Path) -> str | None:
    """Gives what is wrong with the two pages that LMDB reads when it opens a file; None when nothing is.

    Raises:
        OSError: The file cannot be read.
    """
    with PageFile(file) as pages:
        try:
            pages.metas()
        except PageError as exc:
            return str(exc)
    return None


def find_page_damage(
    file: Path, transaction: int, checks: Mapping[bytes, CheckLeaves], long_keys: frozenset[bytes]
) -> str | None:
    """Gives the first thing that is wrong with what a transaction sees; None when nothing is.

    Cost: about 0.3 microseconds an entry.

    Args:
        file: `data.mdb`.
        transaction: Id of a transaction that is open meanwhile.
        checks: What else to check, by the name of the sub-database.
        long_keys: Sub-databases that may have keys of more than 16 bytes.

    Raises:
        OSError: The file cannot be read.
    """
    with PageFile(file) as pages:
        try:
            metas = [meta for meta in pages.metas() if meta.transaction == transaction]
            require(bool(metas), f"it has no meta page of transaction {transaction}")
            _Walk(pages, metas[0]).check(checks, long_keys)
        except PageError as exc:
            return str(exc)
    return None


class _Walk:
    """One look at every page in use."""

    def __init__(self, pages: PageFile, meta: Meta) -> None:
        self._pages = pages
        self._meta = meta
        self._used: Bool = np.zeros(0, np.bool_)
        self._trees: list[tuple[bytes, Tree]] = []
        self._free: list[U64] = []

    @property
    def main(self) -> Tree:
        """The list of sub-databases."""
        return self._meta.main

    def check(self, checks: Mapping[bytes, CheckLeaves], long_keys: frozenset[bytes]) -> None:
        """Looks at all trees."""
        _TreeWalk(self, "the list of free pages", self._meta.free, is_free=True).check(self._take_free)
        _TreeWalk(self, "the list of sub-databases", self._meta.main).check(self._take_trees)
        for name, tree in self._trees:
            words = _LONG_WORDS if name in long_keys else _SHORT_WORDS
            _TreeWalk(self, name.decode("ascii", "replace"), tree, num_words=words).check(checks.get(name, _accept))
        numbers = np.concatenate([np.empty(0, np.uint64), *self._free])
        require(bool((numbers >= 2).all() and (numbers <= self._meta.last_page).all()), "a free page is not in it")
        require(len(np.unique(numbers)) == len(numbers), "a page is free twice")
        last = max(self._pages.num_pages - 1, int(numbers.max(initial=0)))
        require(self._meta.last_page <= last, "there are fewer pages than it says")
        known = numbers[numbers < len(self._used)].astype(np.int64)
        require(not self._used[known].any(), "a page is in use and free")

    def claim(self, name: str, numbers: U64) -> I64:
        """Notes that pages are in use, which no other tree may use."""
        require(bool(((numbers >= 2) & (numbers <= self._meta.last_page)).all()), f"{name} leads out of the file")
        found = numbers.astype(np.int64)
        if len(self._used) <= found.max():
            self._used = np.concatenate((self._used, np.zeros(found.max() + 1 - len(self._used), np.bool_)))
        is_new = len(np.unique(found)) == len(found) and not self._used[found].any()
        require(is_new, f"a page of {name} is in use twice")
        self._used[found] = True
        return found

    def read_far(self, name: str, nodes: Nodes) -> int:
        """Reads the values that stand on pages of their own, notes these pages, and gives their number."""
        total = 0
        for row in np.flatnonzero(nodes.flags & IS_FAR).tolist():
            first = nodes.far_page(row)
            require(2 <= first <= self._meta.last_page, f"{name} leads out of the file")
            nodes.far[row], count = self._pages.read_far(first, int(nodes.low[row]))
            self.claim(name, np.arange(first, first + count, dtype=np.uint64))
            total += count
        return total

    def blocks(self, name: str, numbers: I64, kind: int) -> Iterator[Nodes]:
        """Gives the nodes of some pages."""
        for start in range(0, len(numbers), _BLOCK_PAGES):
            some = numbers[start : start + _BLOCK_PAGES]
            yield find_nodes(name, self._pages.read(some), some, kind)

    def _take_trees(self, nodes: Nodes) -> str | None:
        if not ((nodes.flags == IS_TREE) & (nodes.low == TREE_BYTES)).all():
            return "the list of sub-databases has something else in it"
        self._trees += [(nodes.key(row), Tree.parse(nodes.value(row))) for row in range(len(nodes))]
        return None if all(tree.flags == 0 for _, tree in self._trees) else "a sub-database has flags"

    def _take_free(self, nodes: Nodes) -> str | None:
        for row in range(len(nodes)):
            value = nodes.value(row)
            numbers = np.frombuffer(value, "<u8") if len(value) % 8 == 0 else np.empty(0, "<u8")
            if not len(numbers) or numbers[0] >= len(numbers):
                return "a list of free pages is cut short"
            listed = numbers[1 : 1 + int(numbers[0])].astype(np.uint64)
            if not (listed[1:] < listed[:-1]).all():
                return "a list of free pages does not descend"
            self._free.append(listed)
        return None


class _TreeWalk:
    """A look at one tree, from its root to its leaves and back."""

    def __init__(
        self, walk: _Walk, name: str, tree: Tree, *, num_words: int = _SHORT_WORDS, is_free: bool = False
    ) -> None:
        self._walk = walk
        self._name = name
        self._tree = tree
        self._num_words = num_words
        self._is_free = is_free

    def check(self, check: CheckLeaves) -> None:
        """Looks at all of it; raises `PageError`."""
        tree, name = self._tree, self._name
        if tree.root == NO_ROOT:
            counts = (tree.depth, tree.num_branches, tree.num_leaves, tree.num_overflows, tree.num_entries)
            require(not any(counts), f"{name} has no root and counts {counts}")
            return
        require(0 < tree.depth <= _MAX_DEPTH, f"{name} is {tree.depth} levels deep")
        level = np.array([tree.root], np.uint64)
        branches: list[tuple[I64, U64]] = []
        for _ in range(tree.depth - 1):
            level, starts, keys = self._branches(level)
            branches.append((starts, keys))
        num_branches = sum(len(starts) for starts, _ in branches)
        counted = (num_branches, len(level)) == (tree.num_branches, tree.num_leaves)
        require(counted, f"{name} has another number of pages than it says")
        first, last = self._leaves(level, check)
        for starts, keys in reversed(branches):
            first, last = self._check_separators(starts, keys, first, last)

    def _branches(self, level: U64) -> tuple[U64, I64, U64]:
        """Gives the children of branches, where those of each branch begin, and the key before each."""
        children, counts, keys = [], [], []
        for nodes in self._walk.blocks(self._name, self._walk.claim(self._name, level), BRANCH):
            children.append((nodes.low + (nodes.flags << 32)).astype(np.uint64))
            counts.append(nodes.count)
            keys.append(self._keys(nodes))
        count = np.concatenate(counts)
        require(bool((count > 1).all()) or self._is_free, f"{self._name} has a branch with one child")
        return np.concatenate(children), np.cumsum(count) - count, np.concatenate(keys)

    def _leaves(self, level: U64, check: CheckLeaves) -> tuple[U64, U64]:
        """Looks at the leaves, and gives the first and the last key of each."""
        name = self._name
        num_entries = num_far = 0
        first, last = [], []
        before = np.empty((0, self._num_words + 1), np.uint64)
        for nodes in self._walk.blocks(name, self._walk.claim(name, level), LEAF):
            strange = nodes.flags & ~(IS_TREE if self._tree is self._walk.main else IS_FAR)
            require(not strange.any(), f"{name} has a value of another kind")
            keys = self._keys(nodes)
            joined = np.concatenate((before, keys))
            require(bool(_is_less(joined[:-1], joined[1:]).all()), f"the keys of {name} do not ascend")
            before = keys[-1:]
            ends = np.cumsum(nodes.count)
            first.append(keys[ends - nodes.count])
            last.append(keys[ends - 1])
            num_entries += len(nodes)
            num_far += self._walk.read_far(name, nodes)
            problem = check(nodes)
            if problem:
                raise PageError(problem)
        counted = (num_entries, num_far) == (self._tree.num_entries, self._tree.num_overflows)
        require(counted, f"{name} has another number of entries than it says")
        return np.concatenate(first), np.concatenate(last)

    def _keys(self, nodes: Nodes) -> U64:
        require(bool((nodes.key_size <= 8 * self._num_words).all()), f"{self._name} has a key that is too long")
        keys = nodes.keys(self._num_words)
        if self._is_free:
            keys[:, :-1] = keys[:, :-1].byteswap()  # numbers of this machine, compared as such
        return keys

    def _check_separators(self, starts: I64, keys: U64, first: U64, last: U64) -> tuple[U64, U64]:
        """Checks that the key before a child is behind all keys of the one before, and gives the bounds of branches.

        Args:
            starts: The first child of each branch. (branches,)
            keys: The key before each child, that of a first child means nothing. (children, words + 1)
            first: The first key below each child. (children, words + 1)
            last: The last one.
        """
        later = np.ones(len(keys), np.bool_)
        later[starts] = False
        at = np.flatnonzero(later)
        sorted_ = _is_less(last[at - 1], keys[at]) & ~_is_less(first[at], keys[at])
        require(bool(sorted_.all()), f"a branch of {self._name} leads to other keys than it says")
        return first[starts], last[np.append(starts[1:], len(keys)) - 1]


def _is_less(left: U64, right: U64) -> Bool:
    """Gives which rows are less than those of another table, the first columns counting most; (N,)."""
    differs = left != right
    column = differs.argmax(axis=1)[:, None]
    less: Bool = np.take_along_axis(left, column, 1)[:, 0] < np.take_along_axis(right, column, 1)[:, 0]
    return less


def _accept(nodes: Nodes) -> str | None:
    return None
