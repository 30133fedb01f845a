"""What a request costs, stage by stage: `python -m scripts.bench request --json FILE`.

Generated users of several lengths, both services as processes of their own on the loopback. The control, in the same
run: the plain `faiss.knn` product over the user's ready-gathered attention vectors for the same candidates.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import faiss
import numpy as np
import typer

from model_stage.bundle import load_bundle
from model_stage.encoding.batch import collate
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.serving.search_client import SearchClient
from model_stage.training.impressions import load_impressions
from model_stage.types import RankRequest
from scripts.bench.markdown import cells, rows_table
from scripts.bench.report import ReportFile, finish, head, new_facts
from scripts.bench.timing import elapsed_ms
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS, build
from scripts.servers import running
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from serving.deadline import Deadline
from store.behavior_store import BehaviorStore
from store.command import JsonOption
from store.retrieval import Candidates
from store.terminal import steps, table

if TYPE_CHECKING:
    from store.types import U64

LENGTHS = (100, 1_000, 10_000)
CANDIDATES = (10, 100, 500)
TOP_K = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a request passes through, in this process and as services."""

    store: BehaviorStore
    index: IndexGeneration
    searcher: Searcher
    ranker: Ranker
    search: SearchClient
    rank: RankClient


def request(
    calls: Annotated[int, typer.Option(help="Timed calls per row and measure, after three that are not.")] = 40,
    json_file: JsonOption = None,
    report: ReportFile = None,
) -> None:
    """Builds a generated world, serves it, and times one request per length of history and number of candidates."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        facts = new_facts(f"request --json FILE --calls {calls}", work)
        generate(Settings(users=300, requests=600), work / "data")
        with steps() as progress:
            roots = build(work / "data", CONFIGS / "generated", work, progress.counted)
        bundle = load_bundle(roots.bundle)
        ads = np.unique(load_impressions(work / "data", bundle.schema, bundle.targets.names).item)
        with (
            BehaviorStore.open(roots.store) as store,
            running(roots, work / "logs") as servers,
            SearchClient(servers[0].address) as search,
            RankClient(servers[1].address) as rank,
        ):
            index = IndexGeneration.open(roots.index)
            searcher = Searcher(store, index, SearchConfig.load(roots.config))
            ranker = Ranker(bundle, searcher)
            stages = Stages(store=store, index=index, searcher=searcher, ranker=ranker, search=search, rank=rank)
            facts["rows"] = rows = [
                measure(stages, nearest_user(store, length), ads, count, calls)
                for length in LENGTHS
                for count in CANDIDATES
            ]
    about = "Generated users and ads, medians in milliseconds. *control*: `faiss.knn` over ready-gathered vectors."
    sections = head("A request, stage by stage", facts, about), rows_table(rows)
    finish(facts, sections, json_file, report, table(*rows[0], rows=map(cells, rows)))


def nearest_user(store: BehaviorStore, length: int) -> int:
    """Gives the user whose number of behaviors is nearest to `length`."""
    with store.snapshot() as snapshot:
        return min(snapshot.user_ids(), key=lambda user: abs(snapshot.user(user).columns.num_behaviors - length))


def measure(stages: Stages, user: int, ads: U64, count: int, calls: int) -> dict[str, Any]:
    """Times every part of one request; medians in milliseconds, and the 95th percentile of the whole call."""
    index, searcher, ranker = stages.index, stages.searcher, stages.ranker
    items = np.resize(np.random.default_rng(0).permutation(ads), count)
    with stages.store.snapshot() as snapshot:
        columns = snapshot.user(user).columns
        request = RankRequest(
            user=user, as_of_ms=int(columns.timestamp_ms.max()) + 1, candidates=Candidates.by_id(items)
        )
        keys, queries = index.table[columns.node], index.table[snapshot.taxonomy.item_node(items)]
        num_behaviors = columns.num_behaviors
    query = request.query(newest=ranker.bundle.network_config.preset.newest_read)
    found = searcher.search(query)
    batch = collate([ranker.bundle.encoder.encode(request, found)])
    top_k = min(TOP_K, num_behaviors)
    timed = {
        "control": partial(faiss.knn, queries, keys, top_k, metric=faiss.METRIC_INNER_PRODUCT),
        "search": partial(searcher.search, query),
        "search_rpc": lambda: stages.search.search(query, Deadline.after(10.0)),
        "network": partial(ranker.bundle.network, batch),
        "rank": partial(ranker.rank, request),
        "rank_rpc": lambda: stages.rank.rank(request, Deadline.after(10.0)),
    }
    took_ms = {name: [elapsed_ms(call) for _ in range(3 + calls)][3:] for name, call in timed.items()}
    median = {f"{name}_ms": float(np.median(times)) for name, times in took_ms.items()}
    return {
        "behaviors": num_behaviors,
        "candidates": count,
        "retrieved_per_candidate": round(len(found.index) / count, 1),
        **median,
        "search_over_control": median["search_ms"] / median["control_ms"],
        "rank_rpc_p95_ms": float(np.percentile(took_ms["rank_rpc"], 95)),
    }
