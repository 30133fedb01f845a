"""Labelled impressions of the input contract, grouped into requests.

An impression is a row (user, item, timestamp_ms, label_<target> ..., side-info fields ...); rows with equal user and
time form one request, as the ad ranking service would have sent it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from model_stage.config.schema import StrictModel
from model_stage.errors import ConfigError
from model_stage.types import MAX_CANDIDATES, RankRequest
from store.dataset.impressions import read_impressions
from store.errors import InputError
from store.fields import type_of
from store.retrieval import Candidates
from store.types import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from model_stage.config.schema import Schema
    from store.dataset.impressions import Impressions
    from store.fields import FieldColumn
    from store.types import I64


_log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def _as_time(value: object) -> object:
    try:
        return parse_time(value, "a time") if isinstance(value, str) else value
    except InputError as exc:
        raise ValueError(str(exc)) from exc


Time = Annotated[int, Field(gt=0), BeforeValidator(_as_time)]
"""Milliseconds UTC, or a date, or a date with a time."""


class Splits(StrictModel):
    """`splits.json` of a dataset: where in time training ends and testing begins."""

    train_from_ms: Time | None = None
    """Impressions before it are left out; None = none are."""
    validation_from_ms: Time
    test_from_ms: Time

    @model_validator(mode="after")
    def _ascend(self) -> Splits:
        first = -1 if self.train_from_ms is None else self.train_from_ms
        if not first < self.validation_from_ms < self.test_from_ms:
            raise ValueError("train_from_ms, validation_from_ms and test_from_ms must ascend")
        return self

    def bounds(self, split: str) -> tuple[int | None, int | None]:
        """Gives the first time of a split and the first one behind it; None = no bound."""
        return {
            "train": (self.train_from_ms, self.validation_from_ms),
            "validation": (self.validation_from_ms, self.test_from_ms),
            "test": (self.test_from_ms, None),
        }[split]

    def select(self, impressions: Impressions, split: str) -> Impressions:
        """Gives the impressions of `train`, `validation` or `test`."""
        return impressions.between(*self.bounds(split))


def load_impressions(dataset: Path, schema: Schema, targets: Sequence[str]) -> Impressions:
    """Reads the impressions of a dataset directory: the labels of these targets and the fields of the schema.

    Raises:
        ConfigError: A target has no label column, or a field's column is not of the kind the schema says.
        store.errors.InputError: A row breaks the input contract; names file, line and reason.
    """
    impressions = read_impressions(dataset)
    _warn_of_contradictions(dataset, impressions)
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


def _warn_of_contradictions(dataset: Path, impressions: Impressions) -> None:
    """Tells of impressions of one user, item and time whose labels differ: nothing can be learned of them."""
    order = np.lexsort((impressions.item, impressions.user, impressions.timestamp_ms))
    before, after = order[:-1], order[1:]
    same = np.ones(len(after), np.bool_)
    for column in (impressions.user, impressions.item, impressions.timestamp_ms):
        same &= column[before] == column[after]
    labels = impressions.labels
    differ = (labels[before] != labels[after]) & ~np.isnan(labels[before]) & ~np.isnan(labels[after])
    rows = np.flatnonzero(same & differ.any(axis=1))
    if len(rows):
        first, second = sorted((int(before[rows[0]]) + 1, int(after[rows[0]]) + 1))
        _log.warning(
            "%s: %d impressions contradict another of the same user, item and time, such as rows %d and %d: a label "
            "is yes in one and no in the other",
            *(dataset, len(rows), first, second),
        )


def requests_of(impressions: Impressions, schema: Schema) -> Iterator[tuple[I64, RankRequest]]:
    """Groups impressions into requests, by time and then user; gives each with its rows.

    What one user was shown at one time, and is more than a request may have, is cut: a score depends on no other
    candidate of its request.
    """
    if len(impressions) == 0:
        return
    order = np.lexsort((impressions.user, impressions.timestamp_ms))
    user, time = impressions.user[order], impressions.timestamp_ms[order]
    starts = np.flatnonzero(np.concatenate(([True], (user[1:] != user[:-1]) | (time[1:] != time[:-1]))))
    part = {field.name: field.part for field in schema.fields}
    ends = np.append(starts[1:], len(order))
    parts = np.concatenate([np.arange(start, end, MAX_CANDIDATES) for start, end in zip(starts, ends, strict=True)])
    for start, stop in zip(parts.tolist(), [*parts[1:].tolist(), len(order)], strict=True):
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
