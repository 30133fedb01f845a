"""Reads the labelled impressions of a dataset folder: training's part of the input contract, never ingested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from store.dataset.bad_rows import BadRows
from store.dataset.parsing import times
from store.dataset.readers import find_files, read_batches
from store.dataset.side_tables import IdPools, side_fields
from store.errors import InputError
from store.fields import NUMBER, FieldType, type_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from store.dataset.batch import Batch
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
    own, pools, bad_rows = {"request_id", "item"}, IdPools(), BadRows(max_bad_rows=0)
    request_ids: list[str] = []
    parts: list[tuple[U64, tuple[str, ...], F32]] = []
    for batch in read_batches(file, own, set(), bad_rows, free=True):
        item = pools.items.column(batch, "item", required=True)
        fields = side_fields(batch, own, pools.values)
        targets, labels = _take_labels(batch, fields)
        if fields or not targets:
            wrong = f"has a column {min(fields)!r}" if fields else "has no label"
            raise InputError(f"{file}: {wrong}; expected request_id, item and label_<target> columns")
        batch.report(bad_rows)
        request_ids += [str(name) for name in batch.columns["request_id"].to_pylist()]
        parts.append((item, targets, labels))
    return ServedLabels(
        request_id=request_ids,
        item=np.concatenate([item for item, _, _ in parts]),
        targets=parts[0][1],
        labels=np.concatenate([labels for _, _, labels in parts]),
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
    pools, bad_rows = IdPools(), BadRows(max_bad_rows=0)
    parts = [
        _read_batch(batch, pools, bad_rows)
        for file in files
        for batch in read_batches(file, set(_OWN), set(), bad_rows, free=True)
    ]
    first = parts[0]
    for part in parts[1:]:
        if set(part.targets) != set(first.targets) or _types(part) != _types(first):
            raise InputError(f"{folder}: the impressions files differ in their columns or in a column's type")
    return Impressions(
        user=np.concatenate([part.user for part in parts]),
        item=np.concatenate([part.item for part in parts]),
        timestamp_ms=np.concatenate([part.timestamp_ms for part in parts]),
        targets=first.targets,
        labels=np.concatenate([part.of_targets(first.targets).labels for part in parts]),
        fields={name: type_of(first.fields[name]).join([part.fields[name] for part in parts]) for name in first.fields},
    )


def _read_batch(batch: Batch, pools: IdPools, bad_rows: BadRows) -> Impressions:
    user = pools.users.column(batch, "user", required=True)
    item = pools.items.column(batch, "item", required=True)
    time = times(batch, "timestamp_ms")
    fields = side_fields(batch, _OWN, pools.values)
    targets, labels = _take_labels(batch, fields)
    batch.report(bad_rows)
    return Impressions(user=user, item=item, timestamp_ms=time, targets=targets, labels=labels, fields=fields)


def _take_labels(batch: Batch, fields: dict[str, FieldColumn]) -> tuple[tuple[str, ...], F32]:
    """Takes the columns of labels out of the fields: gives their targets, and a column each. (N, T)."""
    labels: dict[str, F32] = {}
    for name in [name for name in fields if name.startswith(LABEL)]:
        values = fields.pop(name)
        if not NUMBER.fits(values):
            raise InputError(f"{batch.file}: {name}: a label is 0, 1 or empty")
        wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
        batch.check.refuse(wrong, partial(_no_label, name, values))
        labels[name.removeprefix(LABEL)] = values.astype(np.float32)
    columns = np.stack(list(labels.values()), axis=1) if labels else np.empty((len(batch), 0), np.float32)
    return tuple(labels), columns


def _no_label(name: str, values: AnyArray, row: int) -> str:
    return f"{name}: {values[row]:g} is neither 0 nor 1"


def _types(part: Impressions) -> dict[str, FieldType[Any]]:
    return {name: type_of(column) for name, column in part.fields.items()}
