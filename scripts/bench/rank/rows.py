"""Times requests over gRPC by preset, candidates and length of history, alternating with their controls."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from model_stage.bundle import load_bundle
from model_stage.encoding.batch import collate
from model_stage.serving.rank_client import RankClient
from scripts.bench.rank.naive import MOST_PAIRS, NaiveSIM
from scripts.bench.rank.shared import SharedControl, control_of
from scripts.bench.timing import elapsed_ms
from scripts.servers import started
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from serving.deadline import Deadline
from store.behavior_store import BehaviorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.types import RankRequest
    from scripts.bench.rank.world import RankWorld
    from store.retrieval import SearchRequest, SearchResult

CLIENT_MS, LOCAL_MS = 500.0, 100.0
"""Milliseconds of calls of one kind in a row: over gRPC, and of all else."""
_FEWEST, _MOST = 2, 40
"""Calls in a row; the first, which finds the caches as the others left them, is not counted."""
_DEADLINE_S = 60.0
_MINUTE_MS = 60_000
_NEAR = 1e-4
"""Of two probabilities in float32 by different orders of the sums."""


class Row(TypedDict):
    """One preset, number of candidates and length of history; medians but for p99, in milliseconds."""

    preset: str
    C: int
    L: int
    p50_ms: float
    """Over gRPC, both services."""
    p99_ms: float
    control_naive_ms: float
    control_shared_ms: float
    calls: int
    """Over gRPC: those that p50 and p99 are of."""
    search_ms: float
    """Search in process."""
    network_ms: float
    """Batch and network in process."""
    retrieved: float
    """Per candidate, the mean."""
    union: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A preset as it is served, and in this process."""

    bundle: Bundle
    client: RankClient
    control: SharedControl


def bench_rows(
    world: RankWorld, lengths: Sequence[int], candidates: Sequence[int], logs: Path, rounds: int
) -> Iterator[Row]:
    """Gives a row for each preset, number of candidates and length of history.

    Args:
        world: What was built.
        lengths: Behaviors of the users.
        candidates: Numbers of candidates.
        logs: Folder for the logs of the servers; made.
        rounds: Alternations.
    """
    torch.set_num_threads(1)
    with ExitStack() as stack:
        store = stack.enter_context(BehaviorStore.open(world.searched.store))
        searcher = Searcher(store, IndexGeneration.open(world.searched.index), SearchConfig.load(world.config))
        served = _serve(stack, world, logs)
        for length in lengths:
            for count in candidates:
                yield from _cell(served, store, searcher, world.request(length, count), rounds)


def _serve(stack: ExitStack, world: RankWorld, logs: Path) -> dict[str, Served]:
    """Starts one worker of search, and one of ranking for each preset."""
    logs.mkdir(parents=True)
    arguments = ("--store", world.searched.store, "--index", world.searched.index, "--config", world.config)
    search = stack.enter_context(started("search_stage", logs, *arguments))
    served = {}
    for name, root in world.bundles.items():
        (logs / name).mkdir()
        arguments = ("--bundle", root, "--search", search.address)
        server = stack.enter_context(started("model_stage", logs / name, *arguments))
        bundle = load_bundle(root)
        client = stack.enter_context(RankClient(server.address))
        served[name] = Served(bundle=bundle, client=client, control=control_of(bundle))
    return served


def _cell(
    served: Mapping[str, Served], store: BehaviorStore, searcher: Searcher, request: RankRequest, rounds: int
) -> Iterator[Row]:
    """Measures all presets by one request."""
    naive, scale = _naive(next(iter(served.values())).bundle, store, request)
    calls: dict[str, tuple[Callable[[], object], float]] = {"naive": (naive, LOCAL_MS)}
    found = {name: searcher.search(_query(each, request)) for name, each in served.items()}
    for name, each in served.items():
        _check(each, request, found[name])
        calls |= {f"{name} {what}": call for what, call in _calls(each, searcher, request, found[name]).items()}
    took = _alternate(calls, rounds)
    for name in served:
        rpc = took[f"{name} rpc"]
        yield Row(
            preset=name,
            C=len(request.candidates),
            L=found[name].num_behaviors,
            p50_ms=float(np.percentile(rpc, 50)),
            p99_ms=float(np.percentile(rpc, 99)),
            control_naive_ms=float(np.median(took["naive"])) * scale,
            control_shared_ms=float(np.median(took[f"{name} shared"])),
            calls=len(rpc),
            search_ms=float(np.median(took[f"{name} search"])),
            network_ms=float(np.median(took[f"{name} network"])),
            retrieved=len(found[name].index) / len(request.candidates),
            union=len(found[name].behaviors),
        )


def _calls(
    served: Served, searcher: Searcher, request: RankRequest, found: SearchResult
) -> dict[str, tuple[Callable[[], object], float]]:
    """Gives what is timed of a preset, and about how many milliseconds in a row."""
    encoded = served.bundle.encoder.encode(request, found)
    query = _query(served, request)

    def network() -> None:
        with torch.inference_mode():
            served.bundle.network(collate([encoded]))

    return {
        "rpc": (lambda: served.client.rank(request, Deadline.after(_DEADLINE_S)), CLIENT_MS),
        "search": (lambda: searcher.search(query), LOCAL_MS),
        "network": (network, LOCAL_MS),
        "shared": (lambda: served.control(encoded), LOCAL_MS),
    }


def _query(served: Served, request: RankRequest) -> SearchRequest:
    """Gives the search request of a ranking request, as the ranker makes it."""
    return request.query(newest=served.bundle.network_config.preset.newest_read)


def _check(served: Served, request: RankRequest, found: SearchResult) -> None:
    """Checks that the service answers with search, and what the control computes."""
    answer = served.client.rank(request, Deadline.after(_DEADLINE_S))
    assert not answer.degraded, answer.degraded_reason
    probability = torch.sigmoid(served.control(served.bundle.encoder.encode(request, found))).numpy()
    assert np.abs(answer.probability - probability).max() < _NEAR, served.bundle.network_config.preset.name


def _naive(bundle: Bundle, store: BehaviorStore, request: RankRequest) -> tuple[Callable[[], object], float]:
    """Gives a call of the naive control over the user's whole history, and what to multiply its time by."""
    tree = bundle.vocabularies.tree
    with store.snapshot() as snapshot:
        columns = snapshot.user(request.user).columns
        domain, action = columns.domain_and_action(np.arange(columns.num_behaviors))
        node = columns.node.astype(np.int64) + 1  # every node of the store has a row, in its order
        candidate = snapshot.taxonomy.item_node(request.candidates.item).astype(np.int64) + 1
        fields = [domain, action, columns.scene]
        time = np.log1p((request.as_of_ms - columns.timestamp_ms) / _MINUTE_MS).astype(np.int64)
    history = np.stack([*tree.path[node].T[:2], *fields], axis=1)
    count = len(request.candidates)
    scored = max(1, min(count, MOST_PAIRS // len(history)))
    sim = NaiveSIM([len(tree.path), len(tree.path), *(int(values.max()) + 1 for values in fields)]).eval()
    candidates = torch.from_numpy(tree.path[candidate[:scored], :2]).long()
    arguments = torch.from_numpy(history).long(), torch.from_numpy(time), candidates

    def call() -> None:
        with torch.inference_mode():
            sim(*arguments)

    return call, count / scored


def _alternate(calls: Mapping[str, tuple[Callable[[], object], float]], rounds: int) -> dict[str, list[float]]:
    """Times calls in turn, so that a noisy moment hits all alike: some of one kind in a row, then of the next."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    in_a_row = {name: int(np.clip(in_ms / elapsed_ms(call), _FEWEST, _MOST)) for name, (call, in_ms) in calls.items()}
    for _ in range(rounds):
        for name, (call, _) in calls.items():
            took[name] += [elapsed_ms(call) for _ in range(in_a_row[name])][1:]
    return took
