"""Names behind hashed ids: spilled while reading, merged in order of the ids when the base is written."""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import heapq
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from store.errors import InputError, translate_os_errors
from store.types import NameKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from store.dataset.side_tables import IdPools

    Named = Iterator[tuple[int, str]]
    """Ids with their names, ascending by id."""

NAME_KINDS: tuple[NameKind, ...] = tuple(sorted(get_args(NameKind)))
"""Every kind, in the order of its key in the base."""

_SPILL_NAMES = 500_000
_SCHEMA = pa.schema([("id", pa.uint64()), ("name", pa.string())])


class NameSpill:
    """Keeps the names that one reader meets on disk, so that its memory stays bounded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._num_files = 0

    def take(self, pools: IdPools, *, everything: bool = False) -> None:
        """Writes the names of pools that hold many, or of all, and empties these pools.

        Raises:
            StoreIOError: The disk is full, or not writable.
        """
        for kind in NAME_KINDS:
            pool = pools.of(kind)
            if len(pool) < (1 if everything else _SPILL_NAMES):
                continue
            names = sorted(pool.drain().items())
            if not names:
                continue
            ids = pa.array(np.fromiter((key for key, _ in names), np.uint64, len(names)))
            table = pa.Table.from_arrays([ids, pa.array([name for _, name in names], pa.string())], schema=_SCHEMA)
            with translate_os_errors(f"{self._folder}: cannot write"):
                pa.parquet.write_table(table, self._folder / f"names-{kind}-{self._num_files}.parquet")
            self._num_files += 1


def spilled_names(folder: Path, kind: NameKind) -> list[Named]:
    """Gives what a `NameSpill` wrote of one kind, one iterator per file."""
    return [_read(path) for path in sorted(folder.glob(f"names-{kind}-*.parquet"))]


def sorted_names(names: Mapping[int, str]) -> Named:
    """Gives the names of a mapping, ascending by id."""
    return iter(sorted(names.items()))


def merge_names(kind: NameKind, shown: Iterable[Named], ids: Iterable[Named]) -> Named:
    """Gives one name for each id, ascending.

    Args:
        kind: Named in the error message.
        shown: Names to show, the first source that has one wins.
        ids: Strings that were hashed to ids; they are the names where there is no other.

    Raises:
        InputError: Two different strings were hashed to one id.
    """
    sources = [_ranked(names, rank) for rank, names in enumerate(shown)]
    first_id_rank = len(sources)
    sources += [_ranked(names, first_id_rank + rank) for rank, names in enumerate(ids)]
    for key, group in groupby(heapq.merge(*sources), key=itemgetter(0)):
        found = list(group)
        strings = {name for _, rank, name in found if rank >= first_id_rank}
        if len(strings) > 1:
            first, second = sorted(strings)[:2]
            raise InputError(f"the {kind} ids {first!r} and {second!r} have the same 64-bit hash; rename one")
        yield key, found[0][2]


def _ranked(names: Named, rank: int) -> Iterator[tuple[int, int, str]]:
    return ((key, rank, name) for key, name in names)


def _read(path: Path) -> Named:
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1 << 16):
            yield from zip(batch.column("id").to_pylist(), batch.column("name").to_pylist(), strict=True)


def without(names: Iterator[tuple[int, str]], users: Collection[int]) -> Iterator[tuple[int, str]]:
    """Leaves out the names of some users."""
    return ((key, name) for key, name in names if key not in users)
