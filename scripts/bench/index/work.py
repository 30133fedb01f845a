"""What is timed, each in a process of its own: a rebuild of an index, and the bare FAISS and NumPy work in it."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypedDict

import faiss
import numpy as np
from safetensors.numpy import load_file

from scripts.bench.store.world import CATEGORIES, World, write_export
from scripts.bench.timing import StepTimes, peak_rss_mib
from search_stage.index.build import BuildOptions, build_index
from search_stage.index.export import EXPORT_FILE
from search_stage.index.kmeans import ITERATIONS, POINTS_PER_CENTROID, SEED, num_centroids
from search_stage.index.nearest import nearest_centroid
from search_stage.index.representatives import representatives
from store import ingest
from store.behavior_store import BehaviorStore

if TYPE_CHECKING:
    from search_stage.index.layout import VectorType

EVENTS = 1_000_000
NOISE = 0.5
"""Spread of an item around its category, both per dimension; that of the categories is 1."""


class Spent(TypedDict):
    """What one call took."""

    seconds: float
    cpu_s: float
    """Of the processor: what other work on the machine hardly changes."""
    parts: dict[str, float]
    """Seconds of each step."""
    peak_rss_mib: float
    """Largest resident memory of the process, libraries and mapped files included."""
    before_rss_mib: float
    """The same before the call."""
    facts: dict[str, float]
    loading_s: float
    """Before the call: loading the kernels that it uses, as importing FAISS is before it."""


def make_roots(work: Path, items: int, more: int, dim: int) -> None:
    """Writes a store of some items, one of more items, and an export of vectors for all of them but half of the more.

    Everything is generated: an item's vector is its category's and noise.
    """
    world, next_world = World(EVENTS, items), World(EVENTS, items + more)
    for name, part in (("store", world), ("next", next_world)):
        part.write(work / f"{name}-data")
        ingest(work / f"{name}-data", work / name)
    draw = np.random.default_rng(0)
    known = items + more // 2
    categories = draw.standard_normal((CATEGORIES + 1, dim), np.float32)
    vectors = categories[next_world.catalogue.category_of[:known]]
    vectors += np.float32(NOISE) * draw.standard_normal((known, dim), np.float32)
    write_export(work / "model", categories[1:], vectors)


def rebuild(work: Path, store: str, dtype: VectorType, full: bool) -> Spent:
    """Builds and publishes an index, as the offline job does."""
    parts: dict[str, float] = {}

    def on_progress(step: str, done: float) -> None:
        parts[step] = time.perf_counter() - parts.get(step, 0.0)

    loading_s = _load_kernels()
    before = peak_rss_mib()
    with BehaviorStore.open(work / store) as opened:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        options = BuildOptions(dtype=dtype, full=full, min_recall=0.0)
        report = build_index(work / "model", opened, work / f"index-{dtype}", options, on_progress)
        seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    meta = report.meta
    return Spent(
        seconds=seconds,
        cpu_s=cpu_s,
        parts={"read": seconds - sum(parts.values()), **parts},
        peak_rss_mib=peak_rss_mib(),
        before_rss_mib=before,
        facts={
            "rows": meta.num_nodes + 1,
            "carried": meta.num_carried,
            "distinct": meta.num_distinct,
            "clusters": meta.num_clusters,
            "probes": meta.check.probes,
            "recall_at_50": meta.check.recall,
            "scored": meta.check.scored,
            "users": meta.check.num_users,
            "mib": sum(report.sizes.values()) / 2**20,
        },
        loading_s=loading_s,
    )


def control(work: Path, dim: int) -> Spent:
    """Does the same k-means, assignment, gather and `np.save` on vectors that are in memory already."""
    vectors = load_file(work / "model" / EXPORT_FILE)["item_vectors"]
    with BehaviorStore.open(work / "store") as opened, opened.snapshot() as snapshot:
        taxonomy = snapshot.taxonomy
        source = np.random.default_rng(0).permutation(len(vectors))[: taxonomy.num_nodes + 1]
        ids, is_item = np.array(taxonomy.id), np.array(taxonomy.is_item)
    before = peak_rss_mib()
    started_s, started_cpu_s, steps = time.perf_counter(), time.process_time(), StepTimes()
    table = vectors.take(source, axis=0)
    steps("gather", 1.0)
    count = num_centroids(len(table))
    kmeans = faiss.Kmeans(dim, count, niter=ITERATIONS, seed=SEED, max_points_per_centroid=POINTS_PER_CENTROID)
    kmeans.train(table)
    steps("k-means", 1.0)
    index = faiss.IndexFlatL2(dim)
    index.add(kmeans.centroids)
    cluster = index.search(table, 1)[1][:, 0].astype(np.uint16)
    steps("assign", 1.0)
    with TemporaryDirectory(dir=work) as folder:
        for number, array in enumerate((table, source.astype(np.uint32), cluster, kmeans.centroids, ids, is_item)):
            np.save(Path(folder) / f"{number}.npy", array)
        steps("save", 1.0)
        seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    return Spent(
        seconds=seconds,
        cpu_s=cpu_s,
        parts=steps.seconds(),
        peak_rss_mib=peak_rss_mib(),
        before_rss_mib=before,
        facts={},
        loading_s=0.0,
    )


def _load_kernels() -> float:
    started_s = time.perf_counter()
    rows = np.zeros((2, 4), np.float32)
    representatives(rows)
    nearest_centroid(rows, rows)
    return time.perf_counter() - started_s
