"""Synthetic requests: candidates of some categories, each with behaviors that are alike but for age and match level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.ranking.ablation import no_statistics
from model_stage.types import RankRequest
from store.retrieval import SOURCE_HARD, BehaviorColumns, Candidates, SearchResult
from store.types import NO_ID, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.bundle import Bundle
    from store.types import U64

AS_OF_MS = 1_700_000_000_000
"""Arbitrary: networks see ages, not times."""


def sample_categories(bundle: Bundle, at_most: int) -> U64:
    """Gives categories of a bundle's vocabulary, spread over it evenly by id."""
    ids = bundle.vocabularies.tree.categories.ids
    return ids[np.unique(np.linspace(0, len(ids) - 1, min(at_most, len(ids))).astype(np.int64))]


def synthetic_request(
    bundle: Bundle, categories: U64, ages_ms: Sequence[int], match_levels: Sequence[int]
) -> tuple[RankRequest, SearchResult]:
    """Gives a request with one candidate per category, and behaviors of that same category retrieved for it.

    Candidates and behaviors have no item; the behaviors are of the first stream that the bundle knows. There are no
    match statistics and no fields.

    Args:
        bundle: Whose vocabularies name the streams.
        categories: Ids. (C,)
        ages_ms: Age of each candidate's behaviors, descending. (K,)
        match_levels: (K,)
    """
    num_candidates, each = len(categories), len(ages_ms)
    known = bundle.vocabularies.behavior_names
    streams = bundle.vocabularies.streams
    domain, action = streams[0] if streams else (known["domain"][0], known["action"][0])
    item, union = np.full(num_candidates, NO_ID, np.uint64), num_candidates * each
    candidates = Candidates(
        item=item,
        category=categories,
        covers=np.empty(0, np.uint64),
        covers_offsets=np.zeros(num_candidates + 1, np.int64),
    )
    found = SearchResult(
        behaviors=BehaviorColumns(
            item=np.tile(item, each),
            category=np.tile(categories, each),
            timestamp_ms=np.repeat(AS_OF_MS - np.array(ages_ms, np.int64), num_candidates),
            domain=np.zeros(union, np.uint8),
            action=np.zeros(union, np.uint8),
            scene=np.zeros(union, np.uint16),
        ),
        vocabulary=Vocabulary(domains=(domain,), actions=(action,), scenes=("",)),
        offsets=np.arange(num_candidates + 1, dtype=np.int64) * each,
        index=np.arange(union, dtype=np.int32).reshape(each, num_candidates).T.ravel(),
        score=np.zeros(union, np.float32),
        match_level=np.tile(np.array(match_levels, np.uint8), num_candidates),
        source=np.full(union, SOURCE_HARD, np.uint8),
        same_as=np.arange(num_candidates, dtype=np.int32),
        statistics=no_statistics(num_candidates),
        candidate_category=categories,
        num_newest=union,
        num_behaviors=union,
        store_generation="",
        index_generation="",
    )
    return RankRequest(user=0, as_of_ms=AS_OF_MS, candidates=candidates), found
