"""Training with the attention table of another bundle: what must be as it is there, and what may differ."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from model_stage.config.schema import BucketedField, NumericField
from model_stage.errors import ConfigError
from model_stage.training.vocabularies import build_vocabularies

if TYPE_CHECKING:
    from model_stage.bundle import Bundle
    from model_stage.config.schema import Schema
    from model_stage.encoding.vocabulary import Vocabularies
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot


def kept_vocabularies(
    fixed: Bundle, schema: Schema, snapshot: Snapshot, impressions: Impressions, until_ms: int
) -> Vocabularies:
    """Gives the vocabularies of a bundle whose attention table is kept; those of further request fields are made anew.

    The attention table has nothing of the fields of requests, so that a schema may have others.

    Args:
        fixed: The bundle.
        schema: Of the training.
        snapshot: The store generation.
        impressions: Those of the training split.
        until_ms: End of the training split.

    Raises:
        ConfigError: The schema differs in what the attention table is made of.
    """
    check_attention(fixed, schema)
    known = fixed.vocabularies
    others = [field for field in schema.fields if not isinstance(field, NumericField) and not known.knows(field)]
    if not others:
        return known
    made = build_vocabularies(schema, snapshot, impressions, until_ms)
    boundaries = {field.name: made.boundaries[field.name] for field in others if isinstance(field, BucketedField)}
    categorical = {field.name: made.categorical[field.name] for field in others if field.name in made.categorical}
    return replace(
        known,
        boundaries={**known.boundaries, **boundaries},
        categorical={**known.categorical, **categorical},
    )


def check_attention(fixed: Bundle, schema: Schema) -> None:
    """Checks that a schema can be used with the vocabularies and the attention table of another bundle."""
    for key in ("attention_dim", "behavior_fields"):
        theirs, ours = getattr(fixed.schema, key), getattr(schema, key)
        if theirs != ours:
            raise ConfigError(
                f"schema.yaml: {key}: {ours}, but the attention table of bundle {fixed.name} is kept and has {theirs}"
            )
    for name in schema.side_info:
        if schema.behavior_field(name) != fixed.schema.behavior_field(name):
            raise ConfigError(
                f"schema.yaml: fields: {name!r} is not declared as in bundle {fixed.name}, of which the attention "
                "table is kept"
            )
