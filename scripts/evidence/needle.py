"""How much of the needle search finds: of the behaviors that decide in the world `needle`, by target.

Those of `click` can be found by taxonomy, and those of `purchase`, the items of one style, by nothing but similarity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from scripts.generate.dataset import NEEDLE_FILE
from search_stage import IndexGeneration, SearchConfig, Searcher
from store import BehaviorStore
from store.dataset.impressions import read_impressions
from store.retrieval import Candidates, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.evidence.shared import Shared
    from store.dataset.impressions import Impressions
    from store.retrieval import SearchResult
    from store.types import I64


def needle_recall(shared: Shared) -> dict[str, float]:
    """Gives the share of the needles of the test split that the set's search finds, by target; empty = it has none."""
    file = shared.data / NEEDLE_FILE
    if not file.is_file():
        return {}
    table = pq.read_table(file)
    needles = {target: table[target].combine_chunks() for target in table.column_names[3:]}
    impressions = read_impressions(shared.data)
    # The file has the rows of the test split, in their order.
    impressions = impressions.select(np.arange(len(impressions) - table.num_rows, len(impressions)))
    found, total = dict.fromkeys(needles, 0), dict.fromkeys(needles, 0)
    with BehaviorStore.open(shared.roots.store) as store:
        searcher = Searcher(store, IndexGeneration.open(shared.roots.index), SearchConfig.load(shared.config))
        for rows, answer in _answers(searcher, impressions):
            for candidate, row in enumerate(rows.tolist()):
                start, stop = answer.offsets[candidate : candidate + 2]
                times = answer.behaviors.timestamp_ms[answer.index[start:stop]]
                for target, lists in needles.items():
                    needle = lists[row].values.to_numpy()
                    found[target] += int(np.isin(needle, times).sum())
                    total[target] += len(needle)
    return {target: found[target] / max(total[target], 1) for target in needles}


def _answers(searcher: Searcher, impressions: Impressions) -> Iterator[tuple[I64, SearchResult]]:
    """Gives the rows of each request and what search finds for it; impressions are in the order of time and user."""
    change = (impressions.user[1:] != impressions.user[:-1]) | (np.diff(impressions.timestamp_ms) != 0)
    for rows in np.split(np.arange(len(impressions)), np.flatnonzero(change) + 1):
        request = SearchRequest(
            user=int(impressions.user[rows[0]]),
            as_of_ms=int(impressions.timestamp_ms[rows[0]]),
            candidates=Candidates.by_id(impressions.item[rows]),
        )
        yield rows, searcher.search(request)
