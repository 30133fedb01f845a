"""Commands that publish an index: `build-index` and `rollback-index`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_stage.index.build import KEPT, MIN_RECALL, BuildOptions, build_index, roll_back_index
from store.behavior_store import BehaviorStore
from store.cli.shared import add_row, console, errors, facts, say, size_text, steps

if TYPE_CHECKING:
    from search_stage.index.build import IndexReport


class Dtype(StrEnum):
    """How the vectors are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def build_index_command(
    export: Annotated[Path, typer.Option(help="Root of bundles, a bundle, or its attention.safetensors.")],
    store: Annotated[Path, typer.Option("--store", help="Root of the behavior store.")],
    index: Annotated[Path, typer.Option("--index", help="Root to publish the index under.")],
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
        report = build_index(export, opened, index, options, progress)
    _print_report(report)


def rollback_index_command(
    index: Annotated[Path, typer.Option("--index", help="Root of the index.")],
    to: Annotated[str | None, typer.Option(help="Generation to go back to; default: the one before.")] = None,
) -> None:
    """Make an older index generation current again."""
    say(f"current is {roll_back_index(index, to)}; servers follow when they reload")


def _print_report(report: IndexReport) -> None:
    meta, check = report.meta, report.meta.check
    table = facts("published", report.generation or "nothing: a dry run")
    for name, count in (
        ("nodes", meta.num_nodes),
        ("  with a vector of their own", meta.num_own),
        ("  with a category's", meta.num_inherited),
        ("  without one", meta.num_without),
        ("  carried over", meta.num_carried),
        ("  new or changed", meta.num_nodes - meta.num_carried),
        ("different vectors", meta.num_distinct),
        ("dimensions", meta.dim),
        ("clusters", meta.num_clusters),
    ):
        add_row(table, name, f"{count:,}")
    add_row(table, "clusters of", meta.base or f"this build: {report.reason}")
    for file, size in report.sizes.items():
        add_row(table, f"  {file}", size_text(size))
    measured = f"{check.recall:.3f} of the best {check.top_k}, {check.scored:.1%} of the vectors scored"
    none = "not measured: no sampled user has a long enough history"
    add_row(table, "approximate recall", measured if check.num_users else none)
    add_row(table, "largest error of a norm", f"{check.norm_error:.2e}")
    add_row(table, "model", meta.model)
    add_row(table, "store generation", meta.store_generation)
    add_row(table, "seconds", f"{report.duration_s:,.1f}")
    console.print(table)
    for name in report.removed:
        say(f"removed {name}")
    if report.leftover:
        errors.print(f"published, but not all that is old was removed: {report.leftover}", markup=False)
