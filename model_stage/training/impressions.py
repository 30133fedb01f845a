"""Labelled impressions of the input contract, grouped into requests.

An impression is a row (user, item, timestamp_ms, label_<target> ..., side-info fields ...); rows with equal user and
time form one request, as the ad ranking service would have sent it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from model_stage.config.schema import StrictModel
from model_stage.errors import ConfigError
from model_stage.types import RankRequest
from store.dataset.impressions import read_impressions
from store.fields import type_of
from store.retrieval import Candidates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from model_stage.config.schema import Schema
    from store.dataset.impressions import Impressions
    from store.fields import FieldColumn
    from store.types import I64


SPLITS = ("train", "validation", "test")


class Splits(StrictModel):
    """`splits.json` of a dataset: where in time training ends and testing begins, milliseconds UTC."""

    train_from_ms: int | None = None
    """Impressions before it are left out; None = none are."""
    validation_from_ms: int = Field(gt=0)
    test_from_ms: int = Field(gt=0)

    def select(self, impressions: Impressions, split: str) -> Impressions:
        """Gives the impressions of `train`, `validation` or `test`."""
        bounds = {
            "train": (self.train_from_ms, self.validation_from_ms),
            "validation": (self.validation_from_ms, self.test_from_ms),
            "test": (self.test_from_ms, None),
        }
        return impressions.between(*bounds[split])


def load_impressions(dataset: Path, schema: Schema, targets: Sequence[str]) -> Impressions:
    """Reads the impressions of a dataset directory: the labels of these targets and the fields of the schema.

    Raises:
        ConfigError: A target has no label column, or a field's column is not of the kind the schema says.
        store.errors.InputError: A row breaks the input contract; names file, line and reason.
    """
    impressions = read_impressions(dataset)
    for target in targets:
        if target not in impressions.targets:
            has = list(impressions.targets)
            raise ConfigError(f"{dataset}: target {target!r} has no column label_{target}; has {has}")
    fields: dict[str, FieldColumn] = {}
    for field in schema.fields:
        column = impressions.fields.get(field.name)
        if column is None or field.part == "behavior":
            continue
        if not field.type.fits(column):
            raise ConfigError(
                f"{dataset}: impressions column {field.name!r} holds {type_of(column).holds}, a {field.kind} field is "
                f"of {field.type.holds}"
            )
        fields[field.name] = column
    return replace(impressions.of_targets(targets), fields=fields)


def requests_of(impressions: Impressions, schema: Schema) -> Iterator[tuple[I64, RankRequest]]:
    """Groups impressions into requests, by time and then user; gives each with its rows."""
    if len(impressions) == 0:
        return
    order = np.lexsort((impressions.user, impressions.timestamp_ms))
    user, time = impressions.user[order], impressions.timestamp_ms[order]
    starts = np.flatnonzero(np.concatenate(([True], (user[1:] != user[:-1]) | (time[1:] != time[:-1]))))
    part = {field.name: field.part for field in schema.fields}
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        rows = order[start:stop]
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
