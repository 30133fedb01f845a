"""Labelled impressions of the input contract, grouped into requests.

An impression is a row (user, item, timestamp_ms, label_<target> ..., side-info fields ...); rows with equal user and
time form one request, as the ad ranking service would have sent it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.errors import ConfigError
from model_stage.types import RankRequest
from store.dataset.impressions import read_impressions
from store.lists import holds_of
from store.retrieval import Candidates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from model_stage.config.schema import Schema
    from store.lists import FieldColumn
    from store.types import F32, I64, U64


@dataclass(frozen=True, slots=True, kw_only=True)
class Impressions:
    """Impressions as columns of length N, in file order."""

    user: U64
    item: U64
    timestamp_ms: I64
    labels: F32
    """1 yes, 0 no, NaN unknown. (N, T)"""
    fields: Mapping[str, FieldColumn]
    """Side-info fields of the schema that the file carries."""

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: I64) -> Impressions:
        """Gives some rows, in the order asked."""
        return Impressions(
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


def load_impressions(dataset: Path, schema: Schema, targets: Sequence[str]) -> Impressions:
    """Reads the impressions of a dataset directory.

    Raises:
        ConfigError: A target has no label column, or a field's column is not of the kind the schema says.
        store.errors.InputError: A row breaks the input contract; names file, line and reason.
    """
    table = read_impressions(dataset)
    labels = []
    for target in targets:
        if target not in table.labels:
            raise ConfigError(f"{dataset}: target {target!r} has no column label_{target}; has {sorted(table.labels)}")
        labels.append(table.labels[target])
    fields: dict[str, FieldColumn] = {}
    for field in schema.fields:
        column = table.fields.get(field.name)
        if column is None or field.part == "behavior":
            continue
        holds = holds_of(column)
        if holds != field.holds:
            raise ConfigError(
                f"{dataset}: impressions column {field.name!r} holds {holds}, a {field.kind} field is of {field.holds}"
            )
        fields[field.name] = column
    return Impressions(
        user=table.user,
        item=table.item,
        timestamp_ms=table.timestamp_ms,
        labels=np.stack(labels, axis=1),
        fields=fields,
    )


def requests_of(impressions: Impressions, schema: Schema) -> Iterator[tuple[I64, RankRequest]]:
    """Groups impressions into requests, by time and then user; gives each with its rows."""
    if len(impressions) == 0:
        return
    order = np.lexsort((impressions.user, impressions.timestamp_ms))
    user, time = impressions.user[order], impressions.timestamp_ms[order]
    starts = np.flatnonzero(np.concatenate(([True], (user[1:] != user[:-1]) | (time[1:] != time[:-1]))))
    part = {field.name: field.part for field in schema.fields}
    for rows in np.split(order, starts[1:]):
        fields = {name: values[rows] for name, values in impressions.fields.items()}
        first = {name: values[rows[:1]] for name, values in impressions.fields.items()}
        yield (
            rows,
            RankRequest(
                user=int(impressions.user[rows[0]]),
                as_of_ms=int(impressions.timestamp_ms[rows[0]]),
                candidates=Candidates.by_id(impressions.item[rows]),
                candidate_fields={n: v for n, v in fields.items() if part[n] == "candidate"},
                user_fields={n: v for n, v in first.items() if part[n] == "user"},
                context_fields={n: v for n, v in first.items() if part[n] == "context"},
            ),
        )
