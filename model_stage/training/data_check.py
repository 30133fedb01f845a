"""What training looks at before any work: whether the data can teach what the configuration asks for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from model_stage.encoding.values import resolve_lists, resolve_values
from model_stage.errors import ConfigError
from store.fields import ID_LISTS, NUMBER
from store.terminal import time_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.config.schema import AnyField, Schema
    from model_stage.training.impressions import Splits
    from store.dataset.impressions import Impressions
    from store.fields import FieldColumn
    from store.reading.snapshot import Snapshot

_log = logging.getLogger(__name__)

_LOOKED_AT = 2_000
"""Requests whose history is looked up, spread over all."""


def check_data(
    schema: Schema, splits: Splits, impressions: Impressions, parts: Mapping[str, Impressions], snapshot: Snapshot
) -> dict[str, Any]:
    """Checks the data of a training, and warns of what is odd about it.

    Args:
        schema: The fields.
        splits: The bounds of the splits.
        impressions: All of them.
        parts: Those of the splits `train` and `validation`.
        snapshot: The store generation.

    Returns:
        What `metrics.json` says of it: the share of training requests with a history, and of training impressions with
        a value of each field.

    Raises:
        ConfigError: A split is empty, a target has no label, a field stands nowhere, or every impression is older
            than every behavior.
    """
    for split, part in parts.items():
        check_split(splits, impressions, split, part)
    for at, target in enumerate(impressions.targets):
        _check_target(target, parts["train"].labels[:, at], parts["validation"].labels[:, at])
    check_times(impressions, snapshot)
    return {
        "requests_with_history": share_with_history(parts["train"], snapshot),
        "field_coverage": _coverage(schema, impressions, parts["train"], snapshot),
    }


def check_split(splits: Splits, impressions: Impressions, split: str, part: Impressions) -> None:
    """Checks that a split has impressions.

    Raises:
        ConfigError: It has none; says where its bounds and the impressions lie.
    """
    if len(part):
        return
    first, last = int(impressions.timestamp_ms.min()), int(impressions.timestamp_ms.max())
    begin, end = splits.bounds(split)
    bounds = ("" if begin is None else f" from {_time(begin)}") + ("" if end is None else f" before {_time(end)}")
    raise ConfigError(
        f"splits.json: the {split} split has no impressions{bounds}; there are {len(impressions):,}, of {_time(first)} "
        f"to {_time(last)}"
    )


def check_times(impressions: Impressions, snapshot: Snapshot) -> None:
    """Checks that some impression is later than the first behavior.

    Raises:
        ConfigError: None is: one of the two counts in another unit.
    """
    last, first = int(impressions.timestamp_ms.max()), snapshot.meta.first_ms
    if snapshot.meta.num_behaviors and last <= first:
        raise ConfigError(
            f"impressions: timestamp_ms: the newest is {last}, {_time(last)}, and the oldest behavior of store "
            f"{snapshot.generation} of {_time(first)}: no request has a history. Are these times in milliseconds?"
        )


def share_with_history(impressions: Impressions, snapshot: Snapshot) -> float:
    """Gives the share of requests whose user has a behavior before; of some that are spread over all."""
    pairs = np.unique(np.stack([impressions.user, impressions.timestamp_ms.astype(np.uint64)], axis=1), axis=0)
    looked = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), _LOOKED_AT)).astype(np.int64)]
    found = sum(snapshot.user(user).columns.num_before(time_ms) > 0 for user, time_ms in looked.tolist())
    if not found:
        _log.warning("impressions: of %d requests looked at none has a behavior before its time", len(looked))
    return found / len(looked)


def _check_target(target: str, train: Any, validation: Any) -> None:  # noqa: ANN401 (arrays of labels)
    known = int(np.count_nonzero(~np.isnan(train)))
    positives = int(np.nansum(train))
    if not known:
        raise ConfigError(
            f"target {target!r}: the train split has no known label of it, so that nothing can be learned; correct "
            f"label_{target}, or leave it out of targets.yaml"
        )
    if not 0 < positives < known:
        _log.warning(
            "target %s: of %d known labels of the train split %d are positive: nothing but that is learned of it",
            *(target, known, positives),
        )
    known, positives = int(np.count_nonzero(~np.isnan(validation))), int(np.nansum(validation))
    if not 0 < positives < known:
        _log.warning(
            "target %s: of %d known labels of the validation split %d are positive: its AUC cannot be measured",
            *(target, known, positives),
        )


def _coverage(schema: Schema, impressions: Impressions, train: Impressions, snapshot: Snapshot) -> dict[str, float]:
    out = {}
    for field in schema.fields:
        if field.part == "behavior":
            continue  # `build_vocabularies` checks them against the store
        table = {"candidate": snapshot.items, "user": snapshot.users}.get(field.part)
        if field.name not in impressions.columns and (table is None or field.name not in table.fields):
            stored = "" if table is None else f", the store's {field.part}s have {_names(table.fields)}"
            raise ConfigError(
                f"schema.yaml: fields: {field.part} field {field.name!r} stands nowhere: the impressions have the "
                f"columns {_names(impressions.columns)}{stored}"
            )
        out[field.name] = float(np.mean(_given(field, train, snapshot)))
        if out[field.name] == 0.0:
            _log.warning("%s field %s has no value in any impression of the train split", field.part, field.name)
    return out


def _given(field: AnyField, impressions: Impressions, snapshot: Snapshot) -> Any:  # noqa: ANN401 (an array)
    stored: FieldColumn | None = None
    if field.part == "candidate":
        stored = snapshot.items.lookup(impressions.item).get(field.name)
    elif field.part == "user":
        stored = snapshot.users.lookup(impressions.user).get(field.name)
    given, count = impressions.fields.get(field.name), len(impressions)
    if field.type is ID_LISTS:
        lists = resolve_lists(given, stored, count)
        return lists.lengths > 0
    values = resolve_values(field, given, stored, count)
    return ~np.isnan(values) if field.type is NUMBER else field.type.given(values)


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def _time(timestamp_ms: int) -> str:
    return f"{time_text(timestamp_ms)} UTC"
