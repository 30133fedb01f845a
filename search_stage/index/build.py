"""Building: from a model's export and a store generation to a published index."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_stage.index.carry import find_base
from search_stage.index.clusters import cluster_anew, cluster_on
from search_stage.index.export import Export
from search_stage.index.generation import IndexGeneration
from search_stage.index.layout import (
    CENTROIDS_FILE,
    CLUSTER_FILE,
    IDS_FILE,
    IS_ITEM_FILE,
    REPRESENTATIVE_FILE,
    TABLE_FILE,
    IndexMeta,
    VectorType,
)
from search_stage.index.representatives import representatives
from search_stage.index.rows import fill_table, find_sources
from search_stage.index.selfcheck import check_norms, check_recall, measure
from store.errors import StoreError, translate_os_errors
from store.files.arrays import save_array
from store.publishing.generation import GenerationWriter
from store.publishing.kept import LOCK_FILE, remove_generations, remove_leftovers, roll_back
from store.publishing.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from store.behavior_store import BehaviorStore
    from store.reading.snapshot import Snapshot
    from store.types import AnyArray

    Progress = Callable[[str, float], None]
    """Called with the name of a step and how far it has come, 0 to 1."""

KEPT = 3
"""Default number of generations to keep."""
MIN_RECALL = 0.5
"""Default of the smallest recall to publish: it separates broken clusters from vectors that have few clusters. Whether
the recall is high enough for the approximate path is the operator's choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How to build an index."""

    dtype: VectorType = "float32"
    full: bool = False
    """Whether to train the clusters anew where those of the current index could be kept."""
    dry_run: bool = False
    """Whether to do everything but write and publish."""
    keep: int = KEPT
    """Generations to keep, the new one included; at least 1."""
    min_recall: float = MIN_RECALL
    """Smallest recall of the self-check to publish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What a build made."""

    generation: str
    """Name of the generation it published; empty = none, it was a dry run."""
    meta: IndexMeta
    sizes: Mapping[str, int]
    """Bytes of each array, by file."""
    reason: str
    """Why the clusters were trained anew; empty = those of `meta.base` were kept."""
    removed: tuple[str, ...]
    """Generations removed."""
    leftover: str
    """Why something not needed any more could not be removed after the publication; empty = all was."""
    duration_s: float


def build_index(
    export: Path,
    store: BehaviorStore,
    root: Path,
    options: BuildOptions | None = None,
    progress: Progress = lambda step, done: None,
) -> IndexReport:
    """Builds and publishes an index generation for the store's current generation.

    A node gets the vector the export has for it, else that of its nearest ancestor category that has one, else zeros.
    Centroids and clusters are taken over from the current index where that was built from the same export.

    Args:
        export: A model's `attention.safetensors`, the folder it is in, or a root of bundles, whose current one is
            taken.
        store: The store to build for.
        root: Where to publish; made if absent.
        options: How; None = the defaults.
        progress: Called with every step.

    Raises:
        ExportError: The export is missing, damaged or incomplete; names the file.
        IndexCheckError: The index failed its self-check.
        FaissMissingError: Neither faiss wheel is installed.
        store.errors.GenerationError: The bundle, or a record of the store, is damaged.
        store.errors.LockedError: Somebody else publishes or removes generations there.
        store.errors.StoreIOError: The file system refused. Nothing was published on any error.
    """
    options = BuildOptions() if options is None else options
    started_s = time.monotonic()
    read = Export.read(export)
    with store.snapshot() as snapshot:
        arrays, meta, reason = _make(read, snapshot, root, options, progress)
    name, removed, leftover = ("", (), "") if options.dry_run else _publish(root, arrays, meta, options.keep, progress)
    return IndexReport(
        generation=name,
        meta=meta,
        sizes={file: array.nbytes for file, array in arrays.items()},
        reason=reason,
        removed=removed,
        leftover=leftover,
        duration_s=time.monotonic() - started_s,
    )


def roll_back_index(root: Path, name: str | None = None) -> str:
    """Makes an older index generation the current one again, after checking it as `IndexGeneration.open` does.

    Args:
        root: Root of the index.
        name: Generation to go back to; None = the one before the current.

    Returns:
        Its name.

    Raises:
        store.errors.GenerationError: There is no such generation, none before, or it is damaged; the current one stays.
        CorruptIndexError: It is no attention table.
        store.errors.LockedError: Somebody else publishes or removes generations there.
    """
    with FileLock(root / LOCK_FILE, "roll back"):
        return roll_back(root, "index", IndexGeneration.open, name)


def _make(
    export: Export, snapshot: Snapshot, root: Path, options: BuildOptions, progress: Progress
) -> tuple[dict[str, AnyArray], IndexMeta, str]:
    """Gives the arrays by file, what the manifest says, and why clusters were trained anew."""
    taxonomy = snapshot.taxonomy
    progress("gather", 0)
    rows = find_sources(export, taxonomy)
    table, norm_error = fill_table(export, rows, options.dtype)
    check_norms(norm_error, options.dtype)
    representative = representatives(table)
    num_distinct = int(np.count_nonzero(representative == np.arange(len(representative))))
    progress("gather", 1)
    progress("cluster", 0)
    base, reason = (None, "asked for") if options.full else find_base(root, export, options.dtype, num_distinct)
    if base is None:
        clusters = cluster_anew(table, representative)
    else:
        clusters = cluster_on(base, taxonomy, table, representative)
    progress("cluster", 1)
    progress("check", 0)
    check = measure(snapshot, table, representative, clusters, norm_error)
    check_recall(check, options.min_recall)
    progress("check", 1)
    meta = IndexMeta(
        dtype=options.dtype,
        dim=export.dim,
        num_nodes=taxonomy.num_nodes,
        num_own=rows.num_own,
        num_inherited=taxonomy.num_nodes - rows.num_own - rows.num_without,
        num_without=rows.num_without,
        num_distinct=num_distinct,
        num_clusters=len(clusters.centroids),
        model=export.model,
        export_sha256=export.sha256,
        store_generation=snapshot.generation,
        taxonomy_fingerprint=snapshot.meta.taxonomy_fingerprint,
        base=base.name if base is not None else "",
        num_carried=clusters.num_carried,
        check=check,
    )
    arrays = {
        TABLE_FILE: table,
        REPRESENTATIVE_FILE: representative,
        CLUSTER_FILE: clusters.cluster,
        CENTROIDS_FILE: clusters.centroids,
        IDS_FILE: taxonomy.id,
        IS_ITEM_FILE: taxonomy.is_item,
    }
    return arrays, meta, reason


def _publish(
    root: Path, arrays: Mapping[str, AnyArray], meta: IndexMeta, keep: int, progress: Progress
) -> tuple[str, tuple[str, ...], str]:
    """Gives the name of the generation, those removed, and why one could not be."""
    with translate_os_errors(f"{root}: cannot make the index"):
        root.mkdir(parents=True, exist_ok=True)
    progress("publish", 0)
    with FileLock(root / LOCK_FILE, "publish an index"):
        remove_leftovers(root)
        with GenerationWriter(root, kind="index") as writer:
            with translate_os_errors(f"{writer.path}: cannot write"):
                for file, array in arrays.items():
                    save_array(writer.path / file, array)
            writer.meta.update(meta.model_dump(mode="json"))
            name = writer.publish()
        progress("publish", 1)
        try:
            return name, tuple(remove_generations(root, keep, kind="index")), ""
        except StoreError as error:
            return name, (), str(error)
