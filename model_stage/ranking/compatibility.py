"""Checks that the answers of search come from the index and the kind of store a bundle was made for.

Where they do not, ranking answers without history, and says why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from model_stage.errors import BundleMismatchError, SearchUnavailableError
from store.errors import FieldError
from store.fields import type_of
from store.retrieval import Candidates, SearchRequest
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_stage.bundle import Bundle
    from model_stage.config.schema import Schema
    from model_stage.networks.preset import Preset
    from model_stage.types import Retriever
    from serving.deadline import Deadline
    from store.fields import FieldColumn
    from store.retrieval import SearchResult

NOTHING_ASKED = SearchRequest(user=0, as_of_ms=1, candidates=Candidates.by_id(np.array([NO_ID], np.uint64)))
"""A search that finds nothing and says what answers."""


def check_compatible(bundle: Bundle, found: SearchResult) -> None:
    """Checks an answer of search against a bundle.

    An answer without an index fits every bundle: soft search is off, and its scores are all 0.

    Raises:
        BundleMismatchError: The index holds the vectors of another model than the bundle's, the store holds a field of
            the schema as another kind, or fewer of the user's newest behaviors were answered than the bundle reads.
    """
    if found.index_model and found.index_model != bundle.attention_model:
        raise BundleMismatchError(
            f"index {found.index_generation} holds the vectors of model {found.index_model}, bundle {bundle.name} has "
            f"those of {bundle.attention_model}; publish an index built with its export, or the bundle of that index"
        )
    problem = find_field_mismatch(bundle.schema, found)
    if problem is not None:
        raise schema_mismatch_error(bundle, problem)
    problem = find_newest_mismatch(bundle.network_config.preset, found)
    if problem is not None:
        raise BundleMismatchError(f"network of bundle {bundle.name}: {problem}")


def find_newest_mismatch(preset: Preset, found: SearchResult) -> str | None:
    """Says what is wrong where search answers fewer of the user's newest behaviors than a preset reads."""
    wanted = min(preset.newest_read, found.num_behaviors)
    if found.num_newest >= wanted:
        return None
    return (
        f"preset {preset.name!r} reads the user's newest {wanted} behaviors, and search answers {found.num_newest}; "
        "raise limits.max_newest in search.yaml, or upgrade search"
    )


def schema_mismatch_error(bundle: Bundle, problem: str) -> BundleMismatchError:
    """Gives the error of a bundle whose fields are not those of the store."""
    return BundleMismatchError(
        f"schema of bundle {bundle.name}: {problem}; ingest the table it was trained with, or train anew"
    )


def find_field_mismatch(schema: Schema, found: SearchResult) -> str | None:
    """Describes the first field that the store holds as another kind than a schema says; None = they agree."""
    for field in schema.fields:
        if field.part == "context":
            continue
        known: Mapping[str, FieldColumn] = {
            "user": found.user_fields,
            "candidate": found.candidate_fields,
            "behavior": found.behavior_fields,
        }[field.part]
        column = known.get(field.name)
        if column is None and field.part == "behavior":
            return f"behavior field {field.name!r} was asked for, and search answers without it; upgrade it"
        if column is not None and not field.type.fits(column):
            return (
                f"{field.part} field {field.name!r} is {field.kind}, store {found.store_generation} holds "
                f"{type_of(column).holds}"
            )
    return None


def check_retriever(bundle: Bundle, retriever: Retriever, deadline: Deadline | None = None) -> SearchResult | None:
    """Sends an empty search, checks the answer and gives it; None where the retriever does not answer yet.

    Raises:
        BundleMismatchError: As `check_compatible`.
    """
    nothing = replace(
        NOTHING_ASKED,
        newest=bundle.network_config.preset.newest_read,
        behavior_fields=bundle.schema.side_info,
    )
    try:
        found = retriever.search(nothing, deadline)
    except FieldError as exc:
        raise schema_mismatch_error(bundle, str(exc)) from exc
    except SearchUnavailableError:
        return None
    check_compatible(bundle, found)
    return found
