"""What a request costs, stage by stage: `python -m scripts.bench request --json FILE`.

Generated users of several lengths, both services as processes of their own on the loopback. The control, in the same
run: the plain `faiss.knn` product over the user's ready-gathered attention vectors for the same candidates.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import faiss
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from model_stage.bundle import load_bundle
from model_stage.encoding.encoder import collate
from model_stage.progress import progress_bars
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.serving.search_client import SearchClient
from model_stage.training.impressions import load_impressions
from model_stage.types import RankRequest
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS, build
from scripts.servers import running
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from serving.deadline import Deadline
from store.behavior_store import BehaviorStore
from store.retrieval import Candidates

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.types import U64

LENGTHS = (100, 1_000, 10_000)
CANDIDATES = (10, 100, 500)
TOP_K = 50


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Write the numbers here.")],
    calls: Annotated[int, typer.Option(help="Timed calls per row and measure, after three that are not.")] = 40,
) -> None:
    """Builds a generated world, serves it, and times one request per length of history and number of candidates."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        generate(Settings(users=300, requests=600), work / "data")
        with progress_bars() as on_progress:
            roots = build(work / "data", CONFIGS / "generated", work, on_progress)
        bundle = load_bundle(roots.bundle)
        ads = np.unique(load_impressions(work / "data", bundle.schema, bundle.targets.names).item)
        with BehaviorStore.open(roots.store) as store, running(roots, work / "logs") as addresses:
            index = IndexGeneration.open(roots.index)
            ranker = Ranker(bundle, Searcher(store, index, SearchConfig.load(roots.search_config)))
            with SearchClient(addresses.search) as search, RankClient(addresses.ranking) as rank:
                rows = [
                    measure(store, index, ranker, search, rank, users_by_length(store, length), ads, count, calls)
                    for length in LENGTHS
                    for count in CANDIDATES
                ]
    versions = {name: version(name) for name in ("torch", "numpy", "faiss-cpu", "grpcio", "lmdb")}
    machine = {"processor": platform.machine(), "python": platform.python_version(), "versions": versions}
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    Console(width=160).print(table)


def users_by_length(store: BehaviorStore, length: int) -> int:
    """Gives the user whose number of behaviors is nearest to `length`."""
    with store.snapshot() as snapshot:
        return min(snapshot.user_ids(), key=lambda user: abs(snapshot.user(user).columns.num_behaviors - length))


def measure(
    store: BehaviorStore,
    index: IndexGeneration,
    ranker: Ranker,
    search: SearchClient,
    rank: RankClient,
    user: int,
    ads: U64,
    count: int,
    calls: int,
) -> dict[str, Any]:
    """Times every part of one request; medians in milliseconds, and the 95th percentile of the whole call."""
    items = np.resize(np.random.default_rng(0).permutation(ads), count)
    with store.snapshot() as snapshot:
        columns = snapshot.user(user).columns
        request = RankRequest(
            user=user, as_of_ms=int(columns.timestamp_ms.max()) + 1, candidates=Candidates.by_id(items)
        )
        keys, queries = index.table[columns.node], index.table[snapshot.taxonomy.item_node(items)]
        num_behaviors = columns.num_behaviors
    query = request.query()
    searcher = ranker._retriever
    found = searcher.search(query)
    batch = collate([ranker.bundle.encoder.encode(request, found)])
    top_k = min(TOP_K, num_behaviors)
    inner = faiss.METRIC_INNER_PRODUCT
    control, _ = _time(lambda: faiss.knn(queries, keys, top_k, metric=inner), calls)
    searched, _ = _time(lambda: searcher.search(query), calls)
    search_rpc, _ = _time(lambda: search.search(query, Deadline.after(10.0)), calls)
    network, _ = _time(lambda: ranker.bundle.network(batch), calls)
    library, _ = _time(lambda: ranker.rank(request), calls)
    rank_rpc, rank_p95 = _time(lambda: rank.rank(request, Deadline.after(10.0)), calls)
    return {
        "behaviors": num_behaviors,
        "candidates": count,
        "retrieved_per_candidate": round(len(found.index) / count, 1),
        "control_ms": control,
        "search_ms": searched,
        "search_over_control": searched / control,
        "search_rpc_ms": search_rpc,
        "network_ms": network,
        "rank_ms": library,
        "rank_rpc_ms": rank_rpc,
        "rank_rpc_p95_ms": rank_p95,
    }


def _time(call: Callable[[], object], calls: int) -> tuple[float, float]:
    for _ in range(3):
        call()
    took_ms = []
    for _ in range(calls):
        start_s = time.perf_counter()
        call()
        took_ms.append((time.perf_counter() - start_s) * 1000)
    median, p95 = np.percentile(took_ms, [50, 95])
    return float(median), float(p95)
