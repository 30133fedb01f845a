"""Commands that publish an index: `build-index` and `rollback-index`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_stage.index.build import KEPT, MIN_RECALL, BuildOptions, roll_back_index
from search_stage.index.build import build_index as run_build_index
from store.behavior_store import BehaviorStore
from store.command import StoreOption, output_folder
from store.terminal import say, size_text, steps, warn

if TYPE_CHECKING:
    from search_stage.index.build import IndexReport


class Dtype(StrEnum):
    """How the vectors are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def build_index(
    export: Annotated[Path, typer.Option(help="Root of bundles, a bundle, or its attention.safetensors.")],
    store: StoreOption,
    index: Annotated[Path, output_folder("--index", "Root to publish the index under.")],
    dtype: Annotated[
        Dtype, typer.Option(help="How to store the vectors: the 16-bit types halve the memory and round.")
    ] = Dtype.FLOAT32,
    keep: Annotated[int, typer.Option(min=1, help="Generations to keep, the new one included.")] = KEPT,
    min_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Publish nothing when the approximate path finds less than this share.")
    ] = MIN_RECALL,
    full: Annotated[
        bool, typer.Option("--full", help="Train the clusters anew, also where the current index's could be kept.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but write, and print what it would be.")] = (
        False
    ),
) -> None:
    """Build an index generation from a model's export, check it and publish it."""
    options = BuildOptions(dtype=dtype.value, full=full, dry_run=dry_run, keep=keep, min_recall=min_recall)
    with BehaviorStore.open(store) as opened, steps() as progress:
        report = run_build_index(export, opened, index, options, progress)
    _show(report)


def rollback_index(
    index: Annotated[Path, typer.Option("--index", help="Root of the index.")],
    to: Annotated[str | None, typer.Option(help="Generation to go back to; default: the one before.")] = None,
) -> None:
    """Make an older index generation current again."""
    say(f"current is {roll_back_index(index, to)}; servers follow when they reload")


def _show(report: IndexReport) -> None:
    meta, check = report.meta, report.meta.check
    measured = f"{check.recall:.3f} of the best {check.top_k}, {check.scored:.1%} of the vectors scored"
    none = "not measured: no sampled user has a long enough history"
    say(
        {
            "published": report.generation or "nothing: a dry run",
            "nodes": meta.num_nodes,
            "  with a vector of their own": meta.num_own,
            "  with a category's": meta.num_inherited,
            "  without one": meta.num_without,
            "  carried over": meta.num_carried,
            "  new or changed": meta.num_nodes - meta.num_carried,
            "different vectors": meta.num_distinct,
            "dimensions": meta.dim,
            "clusters": meta.num_clusters,
            "clusters of": meta.base or f"this build: {report.reason}",
            **{f"  {file}": size_text(size) for file, size in report.sizes.items()},
            "approximate recall": measured if check.num_users else none,
            "largest error of a norm": f"{check.norm_error:.2e}",
            "model": meta.model,
            "store generation": meta.store_generation,
            "seconds": f"{report.duration_s:,.1f}",
        },
        *(f"removed {name}" for name in report.removed),
    )
    if report.leftover:
        warn(f"published, but not all that is old was removed: {report.leftover}")
