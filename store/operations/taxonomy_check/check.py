"""Checks taxonomy, bridges and items of a dataset folder against one another and the events, reporting every problem.

`ingest` stops at the first fault of a taxonomy. This looks on: what is wrong is set aside, so that one fault does not
hide the next. The `tables` folder of a store generation is a dataset folder too.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from store.dataset.bad_rows import BadRows
from store.dataset.oddities import misspelt_tables
from store.dataset.readers import SUFFIXES
from store.dataset.side_tables import IdPools, read_bridges, read_items, texts
from store.dataset.table_reader import TableReader
from store.errors import InputError
from store.operations.taxonomy_check.bridge_check import join_trees
from store.operations.taxonomy_check.category_use import read_use
from store.operations.taxonomy_check.item_check import Placement
from store.operations.taxonomy_check.report import Case, Finding, TaxonomyReport
from store.operations.taxonomy_check.tree_check import TreeRows, check_tree
from store.taxonomy.numbering import no_bridges, no_items

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.operations.taxonomy_check.category_use import CategoryUse
    from store.operations.taxonomy_check.tree_check import CheckedTree

_T = TypeVar("_T")


def check_dataset(folder: Path, *, progress: Callable[[float], None] = lambda done: None) -> TaxonomyReport:
    """Checks the taxonomy of a dataset folder (docs/data.md) with the events of its behaviors files.

    Args:
        folder: The dataset folder.
        progress: Called with the part of the behaviors that is read, 0 to 1.

    Raises:
        InputError: There is no such folder, or it has no taxonomy file that can be read.
    """
    files = _Files(folder)
    trees = files.trees()
    use = files.optional(lambda: read_use(folder, files.pools, files.bad_rows, progress), None)
    return files.report(trees, use, files.pools.items.text_of)


def check_tables(
    folder: Path, use: CategoryUse, name_category: Callable[[int], str], name_item: Callable[[int], str]
) -> TaxonomyReport:
    """Checks the tables of a store generation with the events of the store.

    Args:
        folder: `tables` of the generation.
        use: What the events use.
        name_category: Gives the name of a category id.
        name_item: Gives the name of an item id.

    Raises:
        InputError: A table cannot be read.
    """
    files = _Files(folder, name_category)
    return files.report(files.trees(), use, name_item)


class _Files:
    """The tables of one folder, read as far as they can be; keeps what could not."""

    def __init__(self, folder: Path, label: Callable[[int], str] | None = None) -> None:
        self._folder = folder
        self.pools = IdPools()
        self._label = label or self.pools.categories.text_of
        self._unreadable: list[Case] = []
        self.bad_rows = BadRows(sys.maxsize)
        self._tables = TableReader([folder], self.bad_rows)

    def trees(self) -> dict[str, TreeRows]:
        """Gives the rows of every tree, by domain; the ads' is always there.

        Raises:
            InputError: There is no taxonomy file, or it cannot be read.
        """
        batch = self._tables.read("taxonomy", {"category", "parent"})
        if batch is None:
            raise InputError(
                f"{self._folder}: has no taxonomy.parquet, .csv or .csv.gz; docs/data.md says what it holds"
            )
        category = self.pools.categories.column(batch, "category", required=True)
        parent = self.pools.categories.column(batch, "parent", required=False)
        domain, name = texts(batch, "domain"), texts(batch, "name")
        good = batch.report(self.bad_rows)
        out = {}
        for word in sorted({"", *domain[good].tolist()}):
            mine = np.flatnonzero(good & (domain == word))
            out[word] = TreeRows(
                domain=word,
                category=category[mine],
                parent=parent[mine],
                name=name[mine],
                where=lambda row, mine=mine: f"{batch.file}:{batch.lines[mine[row]]}",  # type: ignore[misc]
                label=self._label,
            )
        return out

    def optional(self, read: Callable[[], _T], otherwise: _T) -> _T:
        """Gives what a table holds; what else to take when it cannot be read, which is then reported."""
        try:
            return read()
        except InputError as exc:
            self._unreadable.append(Case(str(exc)))
            return otherwise

    def report(
        self, rows: dict[str, TreeRows], use: CategoryUse | None, label_item: Callable[[int], str]
    ) -> TaxonomyReport:
        """Puts everything together."""
        trees: dict[str, CheckedTree] = {}
        findings: list[Finding] = []
        for domain, tree_rows in rows.items():
            trees[domain], found = check_tree(tree_rows)
            findings += found
        bridges = self.optional(lambda: read_bridges(self._tables, self.pools), no_bridges())
        given = self.optional(lambda: read_items(self._tables, self.pools), None)
        items = no_items() if given is None else given.rows
        joined, found = join_trees(trees, bridges)
        placement = Placement(joined, items, use)
        findings += found + placement.findings(label_item) + self._refused() + self._odd()
        if given is not None:
            findings += placement.unknown_covers(given.covers, label_item)
        return TaxonomyReport(
            trees=tuple(tree.shape() for tree in joined.trees),
            num_bridges=len(bridges.category),
            num_items=len(items.item),
            num_items_in_tree=placement.num_items_in_tree,
            places=placement.event_places(),
            findings=tuple(sorted(findings, key=lambda finding: not finding.is_error)),
        )

    def _odd(self) -> list[Finding]:
        cases = [*misspelt_tables(self._folder, SUFFIXES), *map(str, self.pools.odd.found())]
        message = "what is taken as it stands, and may not be meant so"
        finding = Finding(kind="odd-input", is_error=False, message=message, cases=tuple(map(Case, cases)))
        return [finding] if cases else []

    def _refused(self) -> list[Finding]:
        by_file: defaultdict[str, list[Case]] = defaultdict(list)
        for row in self.bad_rows.rows:
            by_file[row.file].append(Case(str(row)))
        out = [Finding(kind="unreadable", is_error=True, message="what cannot be read", cases=tuple(self._unreadable))]
        for file, cases in sorted(by_file.items()):
            out.append(Finding(kind="bad-row", is_error=True, message=f"bad rows in {file}", cases=tuple(cases)))
        return [finding for finding in out if finding.cases]
