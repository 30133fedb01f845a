"""The approximate soft search against the exact one, on the requests of the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from search_stage.searcher import Searcher
from store.retrieval import TopK

if TYPE_CHECKING:
    from search_stage.config import SearchConfig
    from search_stage.index.generation import IndexGeneration
    from store.behavior_store import BehaviorStore
    from store.retrieval import SearchRequest

LONG = 500
"""Behaviors of a history from which on the approximate path is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateRecall:
    """What looking into some of the clusters finds, were it used from the first vector on."""

    num_candidates: int
    """Candidates of users with `LONG` behaviors or more; 0 = there were none."""
    recall: float
    """Mean share of the best `soft.top_k` that it finds; ties count as found. NaN = there were no candidates."""


class ApproximateMeasure:
    """Asks every request both ways."""

    def __init__(self, store: BehaviorStore, index: IndexGeneration, config: SearchConfig) -> None:
        exact, near = (
            config.model_copy(update={"soft": config.soft.model_copy(update={"approximate_from": least})})
            for least in (None, 1)
        )
        self._exact, self._near = Searcher(store, index, exact), Searcher(store, index, near)
        self._shares: list[float] = []

    def add(self, request: SearchRequest) -> None:
        """Compares the answers to one request."""
        only_soft = replace(request, top_k=TopK(hard=0, recent=0))
        exact = self._exact.search(only_soft)
        if exact.num_behaviors < LONG or not len(exact.index):
            return
        near = self._near.search(only_soft)
        for candidate in range(len(request.candidates)):
            best = exact.score[int(exact.offsets[candidate]) : int(exact.offsets[candidate + 1])]
            found = near.score[int(near.offsets[candidate]) : int(near.offsets[candidate + 1])]
            self._shares.append(min(int(np.count_nonzero(found >= best.min())), len(best)) / len(best))

    def result(self) -> ApproximateRecall:
        """Sums up."""
        recall = float(np.mean(self._shares)) if self._shares else float("nan")
        return ApproximateRecall(num_candidates=len(self._shares), recall=recall)
