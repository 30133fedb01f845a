"""What each part of the input adds to a logit, by asking the network again without it.

    contribution(part) = logit(everything) - logit(everything but the part)

| part | without it |
|---|---|
| behaviors | nothing was retrieved; the match statistics stay |
| statistics | no match at any level and no history: every count 0, every age "never"; the behaviors stay |
| numeric | every numeric field is missing, which the network reads as its mean |
| categorical | every categorical field is missing |
| bucketed | every bucketed field is missing |
| multi_valued | every multi-valued field is missing |

Only inputs are changed, never the network. Its parts act together (behaviors and statistics tell the same story in two
ways): contributions need not sum to the logit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from store.fields import type_of
from store.retrieval import BehaviorColumns, MatchStatistics, SearchResult
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_stage.config.schema import Schema
    from model_stage.types import RankRequest
    from store.fields import FieldColumn

FieldKind = Literal["numeric", "categorical", "bucketed", "multi_valued"]
Part = Literal["behaviors", "statistics"] | FieldKind


def parts_of(schema: Schema) -> list[Part]:
    """Gives the parts that a schema's input has, in the order of the table above."""
    kinds = {field.kind for field in schema.fields if field.part != "behavior"}
    return ["behaviors", "statistics", *(kind for kind in get_args(FieldKind) if kind in kinds)]


def without(part: Part, request: RankRequest, found: SearchResult, schema: Schema) -> tuple[RankRequest, SearchResult]:
    """Gives a request and what was retrieved for it, without one part; nothing is changed in place."""
    match part:
        case "behaviors":
            return request, without_behaviors(found)
        case "statistics":
            return request, replace(found, statistics=no_statistics(len(request.candidates)))
        case _:
            return _without_fields(part, request, found, schema)


def without_behaviors(found: SearchResult) -> SearchResult:
    """Gives a search result whose lists are empty."""
    return replace(
        found,
        num_newest=0,
        offsets=np.zeros_like(found.offsets),
        index=found.index[:0],
        score=found.score[:0],
        match_level=found.match_level[:0],
        source=found.source[:0],
    )


def no_statistics(num_candidates: int) -> MatchStatistics:
    """Gives the statistics of a store without streams: the encoder reads them as no match and no history."""
    return MatchStatistics(
        streams=(),
        within_ms=np.empty(0, np.int64),
        count=np.empty((num_candidates, 0, 0), np.int32),
        age_ms=np.empty((num_candidates, 0, 0), np.int64),
        oldest_age_ms=np.empty((num_candidates, 0, 0), np.int64),
        within=np.empty((num_candidates, 0, 0, 0), np.int32),
        total_count=np.empty(0, np.int32),
        total_age_ms=np.empty(0, np.int64),
        total_oldest_age_ms=np.empty(0, np.int64),
        total_within=np.empty((0, 0), np.int32),
        half_life_ms=np.empty(0, np.int64),
        similarity=np.empty((num_candidates, 0, 0), np.float32),
    )


def _without_fields(
    kind: FieldKind, request: RankRequest, found: SearchResult, schema: Schema
) -> tuple[RankRequest, SearchResult]:
    gone = {field.name for field in schema.fields if field.kind == kind}

    def emptied(fields: Mapping[str, FieldColumn]) -> dict[str, FieldColumn]:
        return {
            name: type_of(column).missing(len(column)) if name in gone else column for name, column in fields.items()
        }

    return (
        replace(
            request,
            candidate_fields=emptied(request.candidate_fields),
            user_fields=emptied(request.user_fields),
            context_fields=emptied(request.context_fields),
        ),
        replace(found, candidate_fields=emptied(found.candidate_fields), user_fields=emptied(found.user_fields)),
    )


def no_history(request: RankRequest) -> SearchResult:
    """Gives what search would answer for a user without behaviors, without asking it."""
    count = len(request.candidates)
    return SearchResult(
        behaviors=BehaviorColumns(
            item=np.empty(0, np.uint64),
            category=np.empty(0, np.uint64),
            timestamp_ms=np.empty(0, np.int64),
            domain=np.empty(0, np.uint8),
            action=np.empty(0, np.uint8),
            scene=np.empty(0, np.uint16),
        ),
        vocabulary=Vocabulary(domains=(), actions=(), scenes=()),
        offsets=np.zeros(count + 1, np.int64),
        index=np.empty(0, np.int32),
        score=np.empty(0, np.float32),
        match_level=np.empty(0, np.uint8),
        source=np.empty(0, np.uint8),
        same_as=np.zeros(count, np.int32),
        statistics=no_statistics(count),
        candidate_category=request.candidates.category,
        num_behaviors=0,
        store_generation="",
        index_generation="",
    )
