"""Side-info of items and users, and the products ads cover: small sorted tables in plain .npy files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import CorruptGenerationError, InputError
from store.fields import VALUE_TYPES, type_of
from store.files.arrays import find_sorted, load_array, save_array
from store.lists import Lists, spans

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from store.fields import FieldColumn, IdLists
    from store.types import I64, U64, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldTable:
    """Side-info fields by id; immutable and thread-safe.

    A field has ids (uint64, `NO_ID` = missing), numbers (float32, NaN = missing) or lists of ids::

        ids    brand  price  tags
        7      901    1.5    11 12
        8      NO_ID  2.0
    """

    ids: U64
    """Ascending, distinct. (K,)"""
    fields: Mapping[str, FieldColumn]
    """Each (K,); lists are ascending and without repetition."""

    def __post_init__(self) -> None:
        for name, column in self.fields.items():
            if len(column) != len(self.ids):
                raise InputError(f"{name}: {len(column)} values for {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lists(self) -> tuple[str, ...]:
        """Names of the fields that have lists."""
        return tuple(name for name, column in self.fields.items() if isinstance(column, Lists))

    def lookup(self, ids: U64) -> dict[str, FieldColumn]:
        """Gives every field of some ids, missing where the id is unknown.

        Args:
            ids: Any order, any multiplicity. (N,)

        Returns:
            New arrays, each (N,).
        """
        return self.take(*find_sorted(self.ids, ids))

    def take(self, at: I64, found: Bool) -> dict[str, FieldColumn]:
        """Gives every field of some rows, missing where none was found.

        Args:
            at: Rows; of no account where nothing was found. (N,)
            found: (N,)

        Returns:
            New arrays, each (N,).
        """
        return {name: type_of(column).look_up(column, at, found) for name, column in self.fields.items()}

    def save(self, folder: Path) -> None:
        """Writes `ids.npy` and one numbered .npy file per field, two where it has lists.

        The names, and which of them have lists, go into the manifest, by the caller.
        """
        save_array(folder / "ids.npy", self.ids)
        for number, column in enumerate(self.fields.values()):
            if isinstance(column, Lists):
                save_array(folder / f"field{number}.npy", column.values)
                save_array(folder / f"field{number}.offsets.npy", column.offsets)
            else:
                save_array(folder / f"field{number}.npy", column)

    @staticmethod
    def load(folder: Path, names: Sequence[str], lists: Collection[str] = ()) -> FieldTable:
        """Maps what `save` wrote.

        Args:
            folder: Where it is.
            names: Of the fields, in their order.
            lists: Those that have lists.

        Raises:
            CorruptGenerationError: A file is no such array, or of another length than the ids.
        """
        ids = load_array(folder / "ids.npy", np.uint64)
        fields: dict[str, FieldColumn] = {
            name: _load_lists(folder, number)
            if name in lists
            else load_array(folder / f"field{number}.npy", *(each.dtype for each in VALUE_TYPES.values()))
            for number, name in enumerate(names)
        }
        for number, (name, column) in enumerate(fields.items()):
            if len(column) != len(ids):
                raise CorruptGenerationError(
                    f"{folder / f'field{number}.npy'}: {len(column)} values of {name} for {len(ids)} ids; "
                    "run `lookback-store ingest` again"
                )
        return FieldTable(ids=ids, fields=fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverTable:
    """The products that ads cover, as ragged lists; immutable and thread-safe.

    The list of `ids[k]` is `values[offsets[k]:offsets[k + 1]]`, ascending and distinct.
    """

    ids: U64
    """Ads that cover something, ascending, distinct. (K,)"""
    offsets: I64
    """(K + 1,)"""
    values: U64

    def covers(self, ids: U64) -> tuple[U64, I64]:
        """Gives the covered products of some ads; an empty list where an ad is unknown or covers nothing.

        Args:
            ids: Any order, any multiplicity. (N,)

        Returns:
            New arrays: values, one list after another; offsets (N + 1,).
        """
        at, found = find_sorted(self.ids, ids)
        starts = np.where(found, self.offsets[at], 0)
        lengths = np.where(found, self.offsets[np.minimum(at + 1, len(self.ids))] - starts, 0)
        rows, offsets = spans(starts, lengths)
        return self.values[rows], offsets

    def save(self, folder: Path) -> None:
        """Writes three .npy files."""
        save_array(folder / "ids.npy", self.ids)
        save_array(folder / "offsets.npy", self.offsets)
        save_array(folder / "values.npy", self.values)

    @staticmethod
    def load(folder: Path) -> CoverTable:
        """Maps what `save` wrote.

        Raises:
            CorruptGenerationError: A file is no such array, or the lengths do not fit together.
        """
        ids = load_array(folder / "ids.npy", np.uint64)
        offsets = load_array(folder / "offsets.npy", np.int64)
        values = load_array(folder / "values.npy", np.uint64)
        if len(offsets) != len(ids) + 1 or int(offsets[-1]) != len(values):
            raise CorruptGenerationError(
                f"{folder / 'offsets.npy'}: the offsets do not fit {len(ids)} ids and {len(values)} values; "
                "run `lookback-store ingest` again"
            )
        return CoverTable(ids=ids, offsets=offsets, values=values)


def _load_lists(folder: Path, number: int) -> IdLists:
    values: U64 = load_array(folder / f"field{number}.npy", np.uint64)
    path = folder / f"field{number}.offsets.npy"
    offsets = load_array(path, np.int64)
    try:
        return Lists(values=values, offsets=offsets)
    except InputError as exc:
        raise CorruptGenerationError(f"{path}: {exc}; run `lookback-store ingest` again") from exc
