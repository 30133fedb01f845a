"""Reads the labelled impressions of a dataset folder: training's part of the input contract, never ingested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from store.dataset.bad_rows import BadRows
from store.dataset.column_types import join_types, types_in
from store.dataset.field_values import number_field
from store.dataset.parsing import times
from store.dataset.readers import find_files, read_batches
from store.dataset.side_tables import IdPools, side_fields
from store.errors import InputError
from store.fields import type_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from store.dataset.batch import Batch
    from store.dataset.column_types import ColumnType
    from store.fields import FieldColumn
    from store.types import F32, I64, U64, AnyArray

_OWN = {"user", "item", "timestamp_ms"}
LABEL = "label_"
"""Columns that start so hold the labels of the target named after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impressions:
    """Impressions as columns of length N, in file order."""

    user: U64
    item: U64
    timestamp_ms: I64
    targets: tuple[str, ...]
    labels: F32
    """A column per target: 1 yes, 0 no, NaN unknown. (N, T)"""
    fields: Mapping[str, FieldColumn]
    """Side-info fields: uint64 ids (`NO_ID` = missing), float32 numbers (NaN = missing), or lists of ids."""
    columns: tuple[str, ...] = ()
    """Names of all further columns; one in which no row has a value has no type, and is no field."""

    def __len__(self) -> int:
        return len(self.user)

    def label(self, target: str) -> F32:
        """Gives the labels of one target. (N,)."""
        return self.labels[:, self.targets.index(target)]

    def of_targets(self, targets: Sequence[str]) -> Impressions:
        """Gives the impressions with the labels of these targets only, in their order."""
        columns = [self.targets.index(target) for target in targets]
        return replace(self, targets=tuple(targets), labels=self.labels[:, columns])

    def select(self, rows: I64) -> Impressions:
        """Gives the rows of these numbers, in their order."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            timestamp_ms=self.timestamp_ms[rows],
            labels=self.labels[rows],
            fields={name: values[rows] for name, values in self.fields.items()},
        )

    def between(self, from_ms: int | None, until_ms: int | None) -> Impressions:
        """Gives the rows with from_ms <= time < until_ms; None = no bound."""
        keep = np.ones(len(self), dtype=bool)
        if from_ms is not None:
            keep &= self.timestamp_ms >= from_ms
        if until_ms is not None:
            keep &= self.timestamp_ms < until_ms
        return self.select(np.flatnonzero(keep))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedLabels:
    """What became of candidates that were served, as columns of length N."""

    request_id: list[str]
    item: U64
    targets: tuple[str, ...]
    labels: F32
    """As in `Impressions`. (N, T)"""


def read_served_labels(file: Path) -> ServedLabels:
    """Reads a table of what became of served candidates: `request_id`, `item` and a `label_<target>` column per target.

    Raises:
        InputError: It is no table, it lacks a column or has one that is not a label.
        TooManyBadRowsError: A row breaks the contract; names file, line and reason.
    """
    own, pools, bad_rows = {"request_id", "item"}, IdPools(), BadRows(max_bad_rows=0, advice="correct the input")
    batches = list(read_batches(file, own, set(), bad_rows, free=True))
    columns = [name for name in batches[0].columns if name not in own]
    types = join_types([types_in(batch, own) for batch in batches])
    labels = _label_columns(columns, types)
    if len(labels) < len(columns) or not labels:
        others = sorted(set(columns) - set(labels))
        wrong = f"has a column {others[0]!r}" if others else "has no label"
        raise InputError(f"{file}: {wrong}; expected request_id, item and label_<target> columns")
    request_ids: list[str] = []
    items, parts = [], []
    for batch in batches:
        items.append(pools.items.column(batch, "item", required=True))
        parts.append(_labels_of(batch, labels, types))
        batch.report(bad_rows)
        request_ids += [str(name) for name in batch.columns["request_id"].to_pylist()]
    return ServedLabels(
        request_id=request_ids,
        item=np.concatenate(items),
        targets=tuple(name.removeprefix(LABEL) for name in labels),
        labels=np.concatenate(parts),
    )


def read_impressions(folder: Path) -> Impressions:
    """Reads `impressions*` of a dataset folder; several files are joined in name order.

    Raises:
        InputError: There is no such file, it lacks a column, or files differ in their columns.
        TooManyBadRowsError: A row breaks the contract; names file, line and reason.
    """
    files = find_files(folder, "impressions", many=True)
    if not files:
        raise InputError(f"{folder}: has no impressions.parquet, .csv or .csv.gz; docs/data.md says what it holds")
    pools, bad_rows = IdPools(), BadRows(max_bad_rows=0, advice="correct the input")
    batches = [batch for file in files for batch in read_batches(file, set(_OWN), set(), bad_rows, free=True)]
    columns = _columns(batches)
    types = join_types([types_in(batch, _OWN) for batch in batches])
    labels = _label_columns(columns, types)
    parts = [_read_batch(batch, labels, types, pools, bad_rows) for batch in batches]
    found = Impressions(
        user=np.concatenate([part.user for part in parts]),
        item=np.concatenate([part.item for part in parts]),
        timestamp_ms=np.concatenate([part.timestamp_ms for part in parts]),
        targets=parts[0].targets,
        labels=np.concatenate([part.labels for part in parts]),
        fields={
            name: type_of(field).join([part.fields[name] for part in parts]) for name, field in parts[0].fields.items()
        },
        columns=tuple(sorted(set(columns) - set(labels) - _OWN)),
    )
    if not len(found):
        raise InputError(f"{folder}: the impressions files have no rows")
    return found


def _columns(batches: Sequence[Batch]) -> list[str]:
    """Gives the columns of all batches, in the order of the first; refuses files that differ in them."""
    first = batches[0]
    for batch in batches[1:]:
        differ = sorted(set(batch.columns) ^ set(first.columns))
        if differ:
            raise InputError(f"{batch.file} and {first.file} differ in their columns: only one has {', '.join(differ)}")
    return list(first.columns)


def _read_batch(
    batch: Batch, labels: Sequence[str], types: Mapping[str, ColumnType], pools: IdPools, bad_rows: BadRows
) -> Impressions:
    user = pools.users.column(batch, "user", required=True)
    item = pools.items.column(batch, "item", required=True)
    time = times(batch, "timestamp_ms")
    fields = side_fields(batch, {name: found for name, found in types.items() if name not in labels}, pools.values)
    found = _labels_of(batch, labels, types)
    batch.report(bad_rows)
    targets = tuple(name.removeprefix(LABEL) for name in labels)
    return Impressions(user=user, item=item, timestamp_ms=time, targets=targets, labels=found, fields=fields)


def _label_columns(columns: Sequence[str], types: Mapping[str, ColumnType]) -> list[str]:
    labels = [name for name in columns if name.startswith(LABEL)]
    for name in labels:
        if name in types and types[name].kind != "number":
            raise InputError(f"{types[name].where}: {name}: a label is 0, 1 or empty")
    return labels


def _labels_of(batch: Batch, labels: Sequence[str], types: Mapping[str, ColumnType]) -> F32:
    """Gives a column of labels each, and refuses rows whose label is none. (N, T)."""
    columns = np.full((len(batch), len(labels)), np.nan, np.float32)
    for at, name in enumerate(labels):
        if name in types:
            columns[:, at] = values = number_field(batch, name)
            wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
            batch.check.refuse(wrong, partial(_no_label, name, values))
    return columns


def _no_label(name: str, values: AnyArray, row: int) -> str:
    return f"{name}: {values[row]:g} is neither 0 nor 1"
