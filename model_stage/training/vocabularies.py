"""The vocabularies of a training: which nodes, names, ids and buckets get an embedding of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.config.schema import BucketedField, MultiValuedField, NumericField
from model_stage.encoding.values import resolve_lists, resolve_values
from model_stage.encoding.vocabulary import TreeVocabulary, Vocabularies, fit_boundaries
from model_stage.errors import ConfigError
from store.fields import VALUE_TYPES
from store.types import NO_ID

if TYPE_CHECKING:
    from model_stage.config.schema import AnyField, Schema
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.types import U64, AnyArray

MIN_COUNT = 2
"""Training impressions of an id that gets a row of its own, unless the schema says otherwise: the ids seen once train
the out-of-vocabulary row, and stand for those that will be seen for the first time."""


def build_vocabularies(
    schema: Schema, snapshot: Snapshot, impressions: Impressions, until_ms: int, items: U64 | None = None
) -> Vocabularies:
    """Builds the vocabularies from a store generation and the training impressions.

    Args:
        schema: Says which fields there are, and how often an item or an id must occur.
        snapshot: The store generation.
        impressions: Those of the training split.
        until_ms: End of the training split: later behaviors do not count.
        items: Items that have rows however often they occur; None = none. (I,)
    """
    counts = np.zeros(snapshot.taxonomy.num_nodes + 1, dtype=np.int64)
    for user in snapshot.user_ids():
        columns = snapshot.user(user).columns
        np.add.at(counts, columns.node[columns.order[: columns.num_before(until_ms)]], 1)
    np.add.at(counts, snapshot.taxonomy.item_node(impressions.item), 1)
    if items is not None:
        counts[snapshot.taxonomy.item_node(items)] += schema.item_min_count
    categorical, boundaries = {}, {}
    of_behaviors = _seen_behaviors(schema, snapshot, until_ms)
    for field in schema.fields:
        if isinstance(field, NumericField):
            continue
        seen = of_behaviors[field.name] if field.part == "behavior" else _seen(field, snapshot, impressions)
        if isinstance(field, BucketedField):
            boundaries[field.name] = fit_boundaries(seen, field.buckets)
        elif field.rows is None:
            categorical[field.name] = known_ids(seen, field.min_count or MIN_COUNT)
    names = snapshot.vocabulary
    return Vocabularies(
        tree=TreeVocabulary.from_taxonomy(snapshot.taxonomy, counts[:-1] >= schema.item_min_count),
        behavior_names={"domain": names.domains, "action": names.actions, "scene": names.scenes},
        categorical=categorical,
        streams=snapshot.streams,
        boundaries=boundaries,
    )


def known_ids(seen: U64, min_count: int) -> U64:
    """Gives the ids that occur at least `min_count` times, ascending; `NO_ID` never counts."""
    ids, counts = np.unique(seen, return_counts=True)
    known: U64 = ids[(counts >= min_count) & (ids != np.uint64(NO_ID))]
    return known


def _seen_behaviors(schema: Schema, snapshot: Snapshot, until_ms: int) -> dict[str, AnyArray]:
    """Gives the values that the training's behaviors have of each declared field. Memory: 4 or 8 bytes each.

    Raises:
        ConfigError: The store has no such field, or holds it as another kind.
    """
    types = {name: VALUE_TYPES[kind] for name, kind in snapshot.meta.behavior_fields}
    for field in schema.embedded("behavior"):
        if types.get(field.name) is not field.type:
            there = ", ".join(f"{name} ({values.holds})" for name, values in types.items()) or "none"
            raise ConfigError(
                f"schema.yaml: behavior field {field.name!r} is {field.kind}, of {field.type.holds}; the behaviors of "
                f"store {snapshot.generation} have {there}"
            )
    parts: dict[str, list[AnyArray]] = {name: [] for name in schema.side_info}
    for user in snapshot.user_ids() if parts else ():
        events = snapshot.user(user).events()
        fields = dict(zip(types, events.fields, strict=True))
        for name, values in parts.items():
            values.append(fields[name][events.timestamp_ms < until_ms])
    return {name: types[name].join([types[name].missing(0), *values]) for name, values in parts.items()}


def _seen(field: AnyField, snapshot: Snapshot, impressions: Impressions) -> AnyArray:
    """Gives the values that each impression's request will have: its own, else what the store knows. Lists: of all."""
    match field.part:
        case "candidate":
            stored = snapshot.items.lookup(impressions.item).get(field.name)
        case "user":
            stored = snapshot.users.lookup(impressions.user).get(field.name)
        case "context" | "behavior":
            stored = None
    given, count = impressions.fields.get(field.name), len(impressions)
    if isinstance(field, MultiValuedField):
        return resolve_lists(given, stored, count).values
    return resolve_values(field, given, stored, count)
