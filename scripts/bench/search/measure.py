"""Times one search in its parts, in process and over the wire, against its control."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from model_stage.serving.remote_retriever import RemoteRetriever
from scripts.bench.search.echo import echo
from scripts.bench.search.prepared import prepared
from scripts.bench.timing import elapsed_ms
from scripts.bench.workers import Service, measure_workers
from scripts.servers import started
from search_stage.config import SearchConfig
from search_stage.hard.hard import hard_search
from search_stage.hard.levels import match_levels
from search_stage.history import History
from search_stage.index.generation import IndexGeneration
from search_stage.index.layout import TABLE_FILE
from search_stage.retrieve import Serving
from search_stage.searcher import Searcher
from search_stage.soft.base import Keys, soft_search
from search_stage.soft.clusters import ClusterKeySearch
from search_stage.soft.engines.faiss import calibrate
from serving.deadline import Deadline
from serving.wire.search import request_to_proto, result_to_proto
from store.behavior_store import BehaviorStore
from store.retrieval import SOURCE_SOFT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from scripts.bench.search.world import World
    from search_stage.soft.base import KeySearch
    from store.retrieval import SearchRequest, SearchResult
    from store.types import F32, I64

TOP_K = 50
CATEGORIES = 20
CONFIG = f"hard: {{default: {{quota: {TOP_K}, min_matches: 10}}}}\nsoft: {{top_k: {TOP_K}}}\nrecent: {{top_k: 0}}\n"
_QUICK_MS = 20.0
_ROUNDING = 1e-5
"""Of scores around 1, as they are here."""
_MORE = 10
"""Counted calls of a quick one in a row."""
_PAUSE_S = 0.002
"""About what a request spends outside the search of a server."""
_WORKERS_CANDIDATES = 100
_WORKERS_REQUESTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What answers a request: in this process, and as a service; and what answers nothing."""

    store: BehaviorStore
    index: IndexGeneration
    searcher: Searcher
    client: RemoteRetriever
    prepared: RemoteRetriever
    """Of a server that has its answers ready."""
    answer: Callable[[int, int], bytes]
    """Of `echo`."""


@contextmanager
def stages_of(store_root: Path, index_root: Path, config: Path, logs: Path) -> Iterator[Stages]:
    """Opens and serves a store and an index for the time of the block.

    Args:
        store_root: Root of the store.
        index_root: Root of the index.
        config: Folder with search.yaml.
        logs: Folder for the logs of the servers.
    """
    arguments = ("--store", store_root, "--index", index_root, "--config", config)
    with (
        BehaviorStore.open(store_root) as store,
        started("search_stage", logs, *arguments) as server,
        RemoteRetriever(server.address) as client,
        prepared(store_root, index_root, config, logs) as around,
        echo(logs) as answer,
    ):
        index = IndexGeneration.open(index_root)
        searcher = Searcher(store, index, SearchConfig.load(config))
        yield Stages(store=store, index=index, searcher=searcher, client=client, prepared=around, answer=answer)


def bench_lengths(
    world: World, lengths: Sequence[int], candidates: Sequence[int], logs: Path, calls: int
) -> list[dict[str, Any]]:
    """Measures each number of candidates on each length of history.

    Args:
        world: What was built.
        lengths: Behaviors of the users.
        candidates: Numbers of candidates.
        logs: Folder for the configuration and the logs of the servers.
        calls: Timed calls of each measure; ten times as many of what takes under 20 ms, ten at a time.
    """
    logs.mkdir(parents=True)
    (logs / "search.yaml").write_text(CONFIG, encoding="utf-8")
    with stages_of(world.store, world.index, logs, logs) as stages:
        return [
            measure(stages, world.request(length, count, CATEGORIES), calls)
            for length in lengths
            for count in candidates
        ]


def bench_workers(world: World, length: int, folder: Path) -> dict[str, object]:
    """Measures what a second worker process brings, by requests of 100 candidates each.

    Args:
        world: What was built.
        length: Behaviors of the user.
        folder: Has the configuration of `bench_lengths`.
    """
    asked = [world.request(length, _WORKERS_CANDIDATES, CATEGORIES, seed) for seed in range(_WORKERS_REQUESTS)]
    with BehaviorStore.open(world.store) as store:
        index = IndexGeneration.open(world.index)
        table = index.root / "generations" / index.name / TABLE_FILE
        service = Service(
            package="search_stage",
            arguments=("--store", store.root, "--index", index.root, "--config", folder),
            method="/lookback.search.v1.SearchService/Search",
            table=table,
        )
    requests = [request_to_proto(request).SerializeToString() for request in asked]
    return {"L": length, **measure_workers(service, requests)}


def measure(stages: Stages, request: SearchRequest, calls: int) -> dict[str, Any]:
    """Times the parts of one request, the whole of it, and its control; `bench_lengths` says how often."""
    store, index, searcher, config = stages.store, stages.index, stages.searcher, stages.searcher.config
    top_k = config.soft.top_k
    with store.snapshot() as snapshot:
        serving = Serving.of(snapshot, index, config)
        history = History.before(snapshot.user(request.user).columns, request.as_of_ms)
        resolved = serving.resolver.resolve(request.candidates)
        levels = config.hard.deepest_level + 1
        queries, by_row = index.take(resolved.item_node), index.take(history.node)
        vectors = by_row[history.order[: history.cut]]
        num_keys = len(np.unique(index.representative[history.node[history.order[: history.cut]]]))
        assert serving.key_search is not None
        clusters = ClusterKeySearch(index, serving.key_search, 0, config.soft.probe_one_in)
        key_search, taxonomy, policies = serving.key_search, snapshot.taxonomy, serving.policies

        def soft(keys: KeySearch) -> tuple[I64, I64]:
            return soft_search(keys, queries, Keys.of(history, index.representative), history, top_k)

        def hard() -> object:
            return hard_search(match_levels(resolved, history, taxonomy, levels), policies, request.as_of_ms)

        calibrate(faiss, index.dim)
        found = searcher.search(request)
        sent, answered = request_to_proto(request).ByteSize(), result_to_proto(found).ByteSize()
        took = timed(
            {
                "hard": hard,
                "soft": lambda: soft(key_search),
                "approximate": lambda: soft(clusters),
                "total": lambda: searcher.search(request),
                "control": control_of(stages, request),
                "rpc": lambda: stages.client.search(request, Deadline.after(60.0)),
                "prepared": lambda: stages.prepared.search(request, Deadline.after(60.0)),
                "echo": lambda: stages.answer(sent, answered),
            },
            calls,
        )
        rested_ms = _rested(lambda: searcher.search(request), 2 * calls)
        recall = _recall(_soft_scores(found), queries, vectors, top_k)
        start, rank = soft(clusters)
        parts = np.split(history.order[rank], start[1:-1])
        approximately = [by_row[rows] @ query for rows, query in zip(parts, queries, strict=True)]
    return {
        "L": history.cut,
        "C": len(request.candidates),
        "keys": num_keys,
        "hard_ms": took["hard"],
        "soft_ms": took["soft"],
        "approximate_ms": took["approximate"],
        "approximate_recall": _recall(approximately, queries, vectors, top_k),
        "total_ms": took["total"],
        "control_ms": took["control"],
        "total_over_control": took["total"] / took["control"],
        f"recall_at_{top_k}": recall,
        "rested_ms": rested_ms,
        "rpc_total_ms": took["rpc"],
        "echo_ms": took["echo"],
        "overhead_ms": took["prepared"] - took["echo"],
        "entries": len(found.index),
    }


def control_of(stages: Stages, request: SearchRequest) -> Callable[[], object]:
    """Gives the control of a request: `command.py` says what it is."""
    index, top_k = stages.index, stages.searcher.config.soft.top_k
    with stages.store.snapshot() as snapshot:
        history = History.before(snapshot.user(request.user).columns, request.as_of_ms)
        vectors = index.take(history.node[history.order[: history.cut]])
        queries = index.take(snapshot.taxonomy.item_node(request.candidates.item))
    return partial(faiss.knn, queries, vectors, top_k, metric=faiss.METRIC_INNER_PRODUCT)


def timed(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Times some calls alternating, so that a noisy moment hits all of them alike; medians in milliseconds.

    Quick ones are called several times in a row, as a server under load does: the first of them, which finds the
    caches as the others left them, is not counted.
    """
    took_ms: dict[str, list[float]] = {name: [] for name in calls}
    quick = {name for name, call in calls.items() if min(elapsed_ms(call), elapsed_ms(call)) < _QUICK_MS}
    for _ in range(rounds):
        for name, call in calls.items():
            if name in quick:
                elapsed_ms(call)
            took_ms[name] += [elapsed_ms(call) for _ in range(_MORE if name in quick else 1)]
    return {name: float(np.median(values)) for name, values in took_ms.items()}


def _rested(call: Callable[[], object], count: int) -> float:
    """Times a call that comes after a pause, as it does in a server that waits for requests; gives the median in ms."""
    took_ms = []
    for _ in range(count):
        time.sleep(_PAUSE_S)
        took_ms.append(elapsed_ms(call))
    return float(np.median(took_ms))


def _soft_scores(found: SearchResult) -> list[F32]:
    """Gives the scores of what soft search found, by candidate."""
    scores, sources = (np.split(column, found.offsets[1:-1]) for column in (found.score, found.source))
    return [score[(source & SOURCE_SOFT) > 0] for score, source in zip(scores, sources, strict=True)]


def _recall(found: Sequence[F32], queries: F32, vectors: F32, top_k: int) -> float:
    """Gives the share of the best scores that were found, counted by score: ties are worth the same."""
    shares = []
    for mine, query in zip(found, queries, strict=True):
        scores = vectors @ query
        wanted = min(top_k, len(scores))
        bar = np.partition(scores, -wanted)[-wanted]
        shares.append(min(int(np.count_nonzero(mine >= bar - _ROUNDING)), wanted) / wanted)
    return float(np.mean(shares))
