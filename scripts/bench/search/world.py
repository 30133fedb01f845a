"""A generated world for the benchmark of search: a million items, users of exact lengths, vectors with structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.bench.store.world import CATEGORIES, FIRST_MS, TOP_CATEGORIES, YEAR_MS, Catalogue, write_export
from search_stage.index.build import build_index
from store.behavior_store import BehaviorStore
from store.building.ingest import ingest
from store.retrieval import Candidates, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from store.types import F32, I64

DIM = 32
FIRST_USER = 10_000_000_000
"""The user with exactly L behaviors has the id FIRST_USER + L."""
AS_OF_MS = 1_740_000_000_000

_STREAMS = (("ads", "click"), ("ads", "view"), ("content", "click"), ("content", "view"))
ITEM_NOISE = 0.6
"""Of an item's vector around its category's, which is as far from its parent's: what items have in common is found by
clustering, as in trained tables, and what they have of their own is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Roots of what was built, and what to ask."""

    store: Path
    index: Path
    category_of: I64
    """Category of each item, whose id is the position and one more. (items,)"""

    def request(self, length: int, num_candidates: int, num_categories: int, seed: int = 0) -> SearchRequest:
        """Gives a request of the user with that many behaviors.

        The candidates are distinct items of `num_categories` categories, each with a vector of its own.
        """
        draw = np.random.default_rng([seed, 7])
        categories = draw.permutation(np.unique(self.category_of))[: min(num_categories, num_candidates)]
        of_each = -(-num_candidates // len(categories))
        items = [draw.choice(np.flatnonzero(self.category_of == at), of_each, replace=False) + 1 for at in categories]
        candidates = Candidates.by_id(np.stack(items, axis=1).ravel()[:num_candidates].astype(np.uint64))
        return SearchRequest(user=FIRST_USER + length, as_of_ms=AS_OF_MS, candidates=candidates)


def build_world(folder: Path, lengths: Sequence[int], num_items: int, skew: float, seed: int = 0) -> World:
    """Writes a dataset and an export, ingests the one and builds an index of the other.

    Args:
        folder: Where to; must not exist.
        lengths: Behaviors of each user.
        num_items: Items of the catalogue, each of one of 2,000 categories.
        skew: Popularity of the n-th item is n to the power of minus this; 0 = all are equally popular.
        seed: Of everything drawn.
    """
    draw = np.random.default_rng(seed)
    catalogue = write_data(folder / "data", lengths, num_items, skew, draw)
    _write_export(folder, catalogue, draw)
    ingest(folder / "data", folder / "store")
    with BehaviorStore.open(folder / "store") as store:
        build_index(folder / "model", store, folder / "index")
    return World(store=folder / "store", index=folder / "index", category_of=catalogue.category_of)


def write_data(data: Path, lengths: Sequence[int], num_items: int, skew: float, draw: np.random.Generator) -> Catalogue:
    """Writes a dataset of a user per length; see `build_world`."""
    data.mkdir(parents=True)
    catalogue = Catalogue(num_items, draw)
    catalogue.write(data)
    popularity = np.cumsum(np.arange(1, num_items + 1, dtype=np.float64) ** -skew)
    ranked = draw.permutation(num_items)
    for length in lengths:
        item = ranked[np.searchsorted(popularity, draw.random(length) * popularity[-1])]
        _write_user(data, length, item, catalogue.category_of[item], draw)
    return catalogue


def _write_user(data: Path, length: int, item: I64, category: I64, draw: np.random.Generator) -> None:
    stream = draw.integers(0, len(_STREAMS), length)
    names = {name: [pair[at] for pair in _STREAMS] for at, name in enumerate(("domain", "action"))}
    columns = {
        "user": np.full(length, FIRST_USER + length),
        "item": item + 1,
        "category": category,
        "timestamp_ms": np.sort(draw.integers(FIRST_MS, FIRST_MS + YEAR_MS, length)),
        **{name: pa.DictionaryArray.from_arrays(stream.astype(np.int8), pa.array(names[name])) for name in names},
    }
    pq.write_table(pa.table(columns), data / f"behaviors-{length:08d}.parquet")


def _write_export(folder: Path, catalogue: Catalogue, draw: np.random.Generator) -> None:
    def noise(count: int) -> F32:
        return draw.standard_normal((count, DIM)).astype(np.float32) / np.float32(np.sqrt(DIM))

    categories = noise(CATEGORIES)
    for at in range(TOP_CATEGORIES, CATEGORIES):  # a parent has a smaller number than its children
        categories[at] += categories[catalogue.parent[at]]
    items = categories[catalogue.category_of - 1] + np.float32(ITEM_NOISE) * noise(len(catalogue.category_of))
    write_export(folder / "model", categories, items)
