"""Checks and shows the category trees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.text import Text
from rich.tree import Tree

from store.behavior_store import BehaviorStore
from store.command import JsonOption, StoreOption
from store.errors import InputError, StoreError
from store.operations.taxonomy_check.category_use import snapshot_use
from store.operations.taxonomy_check.check import check_dataset, check_tables
from store.terminal import bar, say, share_text, show_report, table
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from store.operations.taxonomy_check.report import Finding, TaxonomyReport
    from store.reading.snapshot import Snapshot
    from store.types import I64


def check(
    dataset: Annotated[Path | None, typer.Option("--input", help="Dataset folder to check before an ingest.")] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Store to check, with its live events.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show that many cases of each kind.")] = 10,
    json_file: JsonOption = None,
) -> None:
    """Reports every problem of taxonomy, bridges and items at once; fails if there is one that ingest refuses.

    Give --input or --store.
    """
    if dataset is not None and store is None:
        with bar("read behaviors") as progress:
            report = check_dataset(dataset, progress=progress)
    elif store is not None and dataset is None:
        report = _check_store(store)
    else:
        raise InputError("give either --input or --store")
    show_report(_report_parts(report, limit), report.as_json(), json_file)
    if report.num_errors:
        problem = f"{report.num_errors:,} errors, which ingest refuses"
        raise InputError(f"{dataset}: {problem}") if store is None else StoreError(f"{store}: {problem}")


def _check_store(root: Path) -> TaxonomyReport:
    with bar("count events") as progress, BehaviorStore.open(root) as opened, opened.snapshot() as snapshot:
        return check_tables(
            snapshot.path / "tables",
            snapshot_use(snapshot, progress),
            lambda key: snapshot.name_of("category", key),
            lambda key: snapshot.name_of("item", key),
        )


def _report_parts(report: TaxonomyReport, limit: int) -> Iterator[RenderableType]:
    yield table(
        *("tree", "categories", "top level", "leaves by depth"),
        rows=(
            (
                tree.domain or "ads",
                tree.num_categories,
                tree.num_top,
                ", ".join(f"{depth}: {count:,}" for depth, count in tree.leaf_depths.items()),
            )
            for tree in report.trees
        ),
    )
    items = f"{report.num_items:,} items, {report.num_items_in_tree:,} of them under a category"
    yield f"{report.num_bridges:,} bridges, {items}"
    places = report.places
    if places is not None:
        yield (
            f"{places.total:,} events: {share_text(places.in_tree, places.total)} under a category, "
            f"{share_text(places.item_only, places.total)} found as their item only, "
            f"{share_text(places.unmapped, places.total)} unmapped"
        )
    for finding in report.findings:
        yield from _finding_parts(finding, limit, None if places is None else places.total)
    errors = f"{report.num_errors:,} errors" if report.num_errors else "no errors"
    yield f"{errors}, {sum(not finding.is_error for finding in report.findings)} kinds of warnings"


def _finding_parts(finding: Finding, limit: int, total: int | None) -> Iterator[Text | str]:
    def events(count: int | None) -> str:
        return "" if count is None or total is None else f"{count:,} events ({share_text(count, total)})"

    severity = ("error", "red") if finding.is_error else ("warning", "yellow")
    counts = ", ".join(filter(None, (f"{len(finding.cases):,} cases", events(finding.num_events))))
    yield Text.assemble(severity, f" {finding.kind}, {counts}: {finding.message}")
    for case in finding.cases[:limit]:
        yield "  " + ": ".join(filter(None, (case.text, events(case.num_events))))
    if limit and len(finding.cases) > limit:
        yield f"  and {len(finding.cases) - limit:,} more (--limit, --json)"


def show(
    store: StoreOption,
    category: Annotated[
        str | None, typer.Option(help="Show only what is under this category of the ads' tree.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Levels to show.")] = 2,
) -> None:
    """Shows the ads' tree: names, node numbers [first, end), and items under each category."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        taxonomy = snapshot.taxonomy
        builder = _TreeBuilder(snapshot)
        tops = np.flatnonzero((taxonomy.parent < 0) & ~taxonomy.is_item)
        if category is not None:
            node = int(taxonomy.category_node(np.array([parse_id(category, "category")], np.uint64))[0])
            if node == taxonomy.unmapped:
                raise InputError(f"category: {category!r} is no category of the ads' tree")
            tops = np.array([node])
        root = Tree(f"{len(taxonomy.category_ids):,} categories, {len(taxonomy.item_ids):,} items")
        for node in tops.tolist():
            builder.add(root, node, depth)
        say(root)
        lost = taxonomy.num_nodes - taxonomy.num_tree_nodes
        if lost and category is None:
            say(f"{lost:,} items stand under no category")


class _TreeBuilder:
    """Adds subtrees of the taxonomy to what is printed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._taxonomy = snapshot.taxonomy
        self._items_before: I64 = np.concatenate(([0], np.cumsum(snapshot.taxonomy.is_item)))

    def add(self, above: Tree, node: int, levels: int) -> None:
        """Adds a category and the levels below it, that many in all."""
        taxonomy = self._taxonomy
        end = int(taxonomy.end[node])
        items = int(self._items_before[end] - self._items_before[node])
        key = int(taxonomy.id[node])
        name = self._snapshot.name_of("category", key)
        shown = name if name == str(key) else f"{name} ({key})"
        children = self._children(node, end)
        hidden = f", {len(children):,} categories below" if levels == 1 and children else ""
        branch = above.add(Text.assemble(shown, "  ", (f"[{node:,}, {end:,}), {items:,} items{hidden}", "dim")))
        if levels > 1:
            for child in children:
                self.add(branch, child, levels - 1)

    def _children(self, node: int, end: int) -> list[int]:
        taxonomy = self._taxonomy
        below = slice(node + 1, end)
        children: list[int] = np.flatnonzero((taxonomy.parent[below] == node) & ~taxonomy.is_item[below]).tolist()
        return [node + 1 + child for child in children]
