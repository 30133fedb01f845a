"""Small worlds for tests of search: a store, an index over it and requests, all made from a few drawn numbers."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from search_stage import IndexGeneration, build_index
from store.behavior_store import BehaviorStore
from store.lists import Lists
from store.retrieval import BehaviorColumns, Candidates, MatchStatistics, SearchRequest, SearchResult, TopK
from store.types import NO_ID
from tests.worlds.datasets import build_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.worlds.datasets import Rows

FAR_MS = 10**12
"""Later than any behavior of a test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a store and an index are made of."""

    behaviors: Rows
    taxonomy: Rows
    bridges: Rows | None = None
    items: Rows | None = None
    users: Rows | None = None
    category_vectors: dict[int, Sequence[float]] | None = None
    item_vectors: dict[int, Sequence[float]] | None = None


def write_export(folder: Path, categories: dict[int, Sequence[float]], items: dict[int, Sequence[float]]) -> Path:
    """Writes what a model exports; gives the file."""
    dim = len(next(iter({**categories, **items}.values())))
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for part, vectors in (("category", categories), ("item", items)):
        tensors[f"{part}_ids"] = np.array(list(vectors), np.uint64).view(np.int64)
        tensors[f"{part}_vectors"] = np.array(list(vectors.values()), np.float32).reshape(len(vectors), dim)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "attention.safetensors")
    return folder / "attention.safetensors"


def publish(world: World, folder: Path) -> Path:
    """Ingests a world as a store under a folder, or as its next generation; gives the root."""
    return build_store(
        folder,
        behaviors=world.behaviors,
        taxonomy=world.taxonomy,
        bridges=world.bridges,
        items=world.items,
        users=world.users,
    )


@contextmanager
def opened(world: World) -> Iterator[tuple[BehaviorStore, IndexGeneration | None]]:
    """Ingests a world, builds its index where it has vectors, and opens both, in a folder that goes away again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with BehaviorStore.open(publish(world, folder)) as store:
            index = None
            if world.category_vectors is not None and world.item_vectors is not None:
                export = write_export(folder / "model", world.category_vectors, world.item_vectors)
                build_index(export, store, folder / "index")
                index = IndexGeneration.open(folder / "index")
            yield store, index


def behavior(user: int, item: int, time: int, **more: Any) -> dict[str, Any]:
    """Gives a behavior row; by default a click of the domain "ads" without a category of its own."""
    return {
        "user": user,
        "item": item,
        "category": None,
        "domain": "ads",
        "action": "click",
        "scene": "",
        "timestamp_ms": time,
        **more,
    }


def candidates_of(
    items: Sequence[int],
    categories: Sequence[int] | None = None,
    covers: Sequence[Sequence[int]] | None = None,
    more: Sequence[Sequence[int]] | None = None,
) -> Candidates:
    """Gives candidates from plain lists."""
    lists = [[] for _ in items] if covers is None else covers
    further: Sequence[Sequence[int]] = [] if more is None else more
    return Candidates(
        item=np.array(items, np.uint64),
        category=np.array([NO_ID] * len(items) if categories is None else categories, np.uint64),
        covers=np.array([i for part in lists for i in part], np.uint64),
        covers_offsets=np.cumsum([0, *map(len, lists)]).astype(np.int64),
        more_categories=np.array([i for part in further for i in part], np.uint64),
        more_offsets=np.cumsum([0, *map(len, further)]).astype(np.int64) if more is not None else np.empty(0, np.int64),
    )


def request_of(
    user: int, candidates: Candidates, as_of_ms: int = FAR_MS, top_k: TopK | None = None, **more: Any
) -> SearchRequest:
    """Gives a request."""
    return SearchRequest(user=user, as_of_ms=as_of_ms, candidates=candidates, top_k=top_k or TopK(), **more)


def assert_equal_results(left: SearchResult, right: SearchResult) -> None:
    """Compares two answers bit by bit, dtypes too; NaN equals NaN."""
    for field in fields(SearchResult):
        _assert_equal(field.name, getattr(left, field.name), getattr(right, field.name))


def _assert_equal(name: str, left: Any, right: Any) -> None:
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype, name
        if name.endswith(".similarity"):  # sums over a history, in whatever order
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)
    elif isinstance(left, BehaviorColumns | MatchStatistics | Lists):
        for field in fields(left):
            _assert_equal(f"{name}.{field.name}", getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), name
        for key in left:
            _assert_equal(f"{name}.{key}", left[key], right[key])
    else:
        assert left == right, name


def listed(result: SearchResult, candidate: int) -> list[tuple[int, int, int, int, float]]:
    """Gives one candidate's list as (item, time, match level, source, score), oldest first."""
    part = slice(int(result.offsets[candidate]), int(result.offsets[candidate + 1]))
    rows = result.index[part]
    return list(
        zip(
            result.behaviors.item[rows].tolist(),
            result.behaviors.timestamp_ms[rows].tolist(),
            result.match_level[part].tolist(),
            result.source[part].tolist(),
            result.score[part].tolist(),
            strict=True,
        )
    )
