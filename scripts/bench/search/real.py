"""Search for real requests: Complete Journey's households, and all coupons of a campaign that covers many products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from model_stage.config.schema import load_yaml
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.pipeline import Recipe, Splits
from scripts.bench.search.measure import Stages, control_of, measure, stages_of
from scripts.bench.timing import elapsed_ms
from scripts.datasets.complete_journey.convert import convert
from scripts.pipeline import CONFIGS, publish_search
from serving.deadline import Deadline
from store.terminal import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scripts.servers import Roots
    from store.retrieval import SearchRequest

_QUANTILES = (0.1, 0.5, 0.9, 1.0)
"""Of the histories' lengths: whose requests are measured part by part."""
_PERCENTILES = (50, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealWorld:
    """What was built of real data, and what to ask."""

    roots: Roots
    requests: Sequence[SearchRequest]
    """Of the test split, those with the most candidates."""


def build_real_world(originals: Path, folder: Path) -> RealWorld:
    """Converts Complete Journey's tables, ingests them, and trains the attention vectors that the index holds.

    Args:
        originals: Folder of the tables.
        folder: Where to; must not exist.
    """
    folder.mkdir(parents=True)
    convert(originals, folder / "data")
    config = CONFIGS / "complete_journey"
    with steps() as progress:
        roots = publish_search(folder / "data", config, folder, progress.counted)
    return RealWorld(roots=roots, requests=largest_requests(folder / "data", config))


def largest_requests(dataset: Path, config: Path) -> list[SearchRequest]:
    """Gives the requests of the test split with the most candidates, as training asks them.

    Args:
        dataset: Dataset directory with impressions and splits.json.
        config: Folder of its configuration.
    """
    recipe = Recipe.load(config)
    impressions = load_impressions(dataset, recipe.schema, recipe.targets.names)
    test = load_yaml(dataset / "splits.json", Splits).select(impressions, "test")
    asked = [request.query(behavior_fields=recipe.schema.side_info) for _, request in requests_of(test, recipe.schema)]
    most = max(len(request.candidates) for request in asked)
    return [request for request in asked if len(request.candidates) == most]


def bench_real(world: RealWorld, logs: Path, calls: int) -> dict[str, Any]:
    """Measures some requests part by part, and every one as a whole.

    Args:
        world: What was built.
        logs: Folder for the logs of the servers.
        calls: See `measure`.

    Returns:
        `rows`, those of `measure` with the number of covered products, shortest history first; `whole`: percentiles of
        what each request takes when it comes once among all others, in milliseconds.
    """
    logs.mkdir(parents=True)
    with stages_of(world.roots.store, world.roots.index, world.roots.config, logs) as stages:
        by_length = sorted(world.requests, key=lambda request: stages.searcher.search(request).num_behaviors)
        chosen = [by_length[round(quantile * (len(by_length) - 1))] for quantile in _QUANTILES]
        rows = [{"products": _num_products(stages, request), **measure(stages, request, calls)} for request in chosen]
        return {"rows": rows, "whole": _whole(stages, world.requests)}


def bench_whole(world: RealWorld, logs: Path) -> dict[str, Any]:
    """Measures every request as a whole; arguments and answer as `whole` of `bench_real`."""
    logs.mkdir(parents=True)
    with stages_of(world.roots.store, world.roots.index, world.roots.config, logs) as stages:
        return _whole(stages, world.requests)


def _num_products(stages: Stages, request: SearchRequest) -> int:
    """Gives how many products the candidates of a request cover, each of them by itself."""
    with stages.store.snapshot() as snapshot:
        return len(snapshot.covers.covers(request.candidates.item)[0])


def _whole(stages: Stages, requests: Sequence[SearchRequest]) -> dict[str, Any]:
    """Times each request once, in process, over the wire and its control, in turn; all were asked before."""
    took_ms: dict[str, list[float]] = {}
    for request in requests:
        asked: dict[str, Callable[[], object]] = {
            "search": partial(stages.searcher.search, request),
            "control": control_of(stages, request),
            "rpc": partial(stages.client.search, request, Deadline.after(60.0)),
        }
        for name, call in asked.items():
            took_ms.setdefault(name, []).append(elapsed_ms(call))
    return {
        "requests": len(requests),
        "C": len(requests[0].candidates),
        "products": float(np.mean([_num_products(stages, request) for request in requests])),
        **{
            f"{name}_p{percentile}_ms": float(np.percentile(took, percentile))
            for name, took in took_ms.items()
            for percentile in _PERCENTILES
        },
    }
