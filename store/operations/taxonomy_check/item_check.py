"""Items and events against the trees: which of them find no place, and which items stand in several categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.files.arrays import find_sorted
from store.operations.taxonomy_check.bridge_check import Place
from store.operations.taxonomy_check.category_use import sum_by_keys
from store.operations.taxonomy_check.report import Case, EventPlaces, Finding
from store.taxonomy.ordering import stable_order
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.base.tables import CoverTable
    from store.operations.taxonomy_check.bridge_check import Trees
    from store.operations.taxonomy_check.category_use import CategoryUse
    from store.taxonomy.numbering import ItemRows
    from store.types import I64, U64


class Placement:
    """Where every item and every event finds its place; events by distinct (domain, item, category) triples."""

    def __init__(self, trees: Trees, items: ItemRows, use: CategoryUse | None) -> None:
        self._trees = trees
        self._items = items
        self._use = use
        order = np.argsort(items.item)
        self._item_tree = trees.number_of(items.domain)
        self._item_place = trees.places(self._item_tree, items.category)
        if use is None:
            return
        of_domain = trees.number_of(np.array(use.domains, object))
        self._own_tree = of_domain[use.domain] if len(of_domain) else np.empty(0, np.int64)
        at, self._item_known = find_sorted(items.item[order], use.item)
        self._item_row = order[at] if len(order) else at
        known = self._item_known
        self._tree = self._own_tree.copy()
        self._category = use.category.copy()
        self._tree[known] = self._item_tree[self._item_row[known]]
        self._category[known] = items.category[self._item_row[known]]
        self._place = trees.places(self._tree, self._category)

    @property
    def num_items_in_tree(self) -> int:
        """Items under a category of the ads' tree."""
        return int(np.count_nonzero(self._item_place == Place.IN_TREE))

    def event_places(self) -> EventPlaces | None:
        """Gives how many events find which place; None when the events are not known."""
        if self._use is None:
            return None
        in_tree = self._place == Place.IN_TREE
        return EventPlaces(
            total=self._use.num_events,
            in_tree=int(self._use.count[in_tree].sum()),
            item_only=int(self._use.count[~in_tree & self._item_known].sum()),
            unmapped=int(self._use.count[~in_tree & ~self._item_known].sum()),
        )

    def findings(self, label_item: Callable[[int], str]) -> list[Finding]:
        """Gives what is odd about items and events; nothing of it stops an ingest.

        Args:
            label_item: Gives an item id as it stood in the input.
        """
        found = [
            self._unbridged(),
            self._items_without_category(),
            self._unknown_of_items(),
            self._unknown_of_events(),
            self._events_without_category(),
            self._several_categories(label_item),
        ]
        return [finding for finding in found if finding.cases]

    def unknown_covers(self, covers: CoverTable, label_item: Callable[[int], str]) -> list[Finding]:
        """Gives the covered products that neither the items table nor an event knows: another spelling, perhaps."""
        known = [self._items.item] + ([] if self._use is None else [self._use.item])
        ad_of = np.repeat(covers.ids, np.diff(covers.offsets))
        unknown = np.flatnonzero(~np.isin(covers.values, np.concatenate(known)))
        cases = [
            Case(f"{label_item(int(covers.values[at]))}, which {label_item(int(ad_of[at]))} covers")
            for at in unknown.tolist()
        ]
        message = "covered products that neither the items table nor an event knows; in CSV a list is joined by |"
        finding = Finding(kind="covers-unknown", is_error=False, message=message, cases=tuple(cases))
        return [finding] if cases else []

    def _unbridged(self) -> Finding:
        parts = []
        for number, (tree, is_bridged) in enumerate(zip(self._trees.trees, self._trees.is_bridged, strict=True)):
            category = tree.id[~is_bridged]
            parts.append((np.full(len(category), number), category))
        tree_number, category = (np.concatenate(column) for column in zip(*parts, strict=True))
        events = self._events_by_category(Place.UNBRIDGED)
        cases = [
            Case(self._trees.name(*key), None if events is None else events.get(key, 0))
            for key in zip(tree_number.tolist(), category.tolist(), strict=True)
        ]
        message = (
            "categories without a bridge, of their own or an ancestor's: hard search finds their events as their item "
            "only, or not at all"
        )
        return Finding(kind="unbridged", is_error=False, message=message, cases=_most_first(cases))

    def _items_without_category(self) -> Finding:
        count = int(np.count_nonzero(self._item_place == Place.NONE_GIVEN))
        events = None
        if self._use is not None:
            events = int(self._use.count[(self._place == Place.NONE_GIVEN) & self._item_known].sum())
        cases = (Case(f"{count:,} items", events),) if count else ()
        message = "items without a category: hard search finds their events as that item only"
        return Finding(kind="item-without-category", is_error=False, message=message, cases=cases)

    def _unknown_of_items(self) -> Finding:
        unknown = np.flatnonzero(self._item_place == Place.UNKNOWN)
        items = _count_by_key(self._item_tree[unknown], self._items.category[unknown], np.ones(len(unknown), np.int64))
        events = None if self._use is None else self._events_by_category(Place.UNKNOWN, item_known=True)
        cases = [
            Case(
                f"{self._trees.name(*key)}: {count:,} item{'s' if count > 1 else ''}",
                None if events is None else events.get(key, 0),
            )
            for key, count in items.items()
        ]
        message = "categories of items that are no categories of their tree: the items stand under none"
        return Finding(kind="item-category-unknown", is_error=False, message=message, cases=_most_first(cases))

    def _unknown_of_events(self) -> Finding:
        events = self._events_by_category(Place.UNKNOWN, item_known=False) or {}
        cases = [Case(self._trees.name(*key), count) for key, count in events.items()]
        message = "categories of events that are no categories of their tree, and their items are not known"
        return Finding(kind="event-category-unknown", is_error=False, message=message, cases=_most_first(cases))

    def _events_without_category(self) -> Finding:
        cases = []
        if self._use is not None:
            rows = (self._place == Place.NONE_GIVEN) & ~self._item_known
            total = np.bincount(self._use.domain[rows], self._use.count[rows], len(self._use.domains)).astype(np.int64)
            cases = [
                Case(f"domain {word!r}", events)
                for word, events in zip(self._use.domains, total.tolist(), strict=True)
                if events
            ]
        message = "events with neither a known item nor a category"
        return Finding(kind="event-without-category", is_error=False, message=message, cases=_most_first(cases))

    def _several_categories(self, label_item: Callable[[int], str]) -> Finding:
        item, tree, category, count = self._seen()
        order = stable_order(item, tree, category)
        item, tree, category, count = item[order], tree[order], category[order], count[order]
        same_item = (item[1:] == item[:-1]) & (tree[1:] == tree[:-1])
        another = np.flatnonzero(same_item & (category[1:] != category[:-1]))
        cases = []
        for key in np.unique(item[another]).tolist():
            rows = slice(*np.searchsorted(item, [key, key + 1]).tolist())
            pairs = sorted(set(zip(tree[rows].tolist(), category[rows].tolist(), strict=True)))
            names = "; ".join(self._trees.name(*pair) for pair in pairs)
            events = None if self._use is None else int(count[rows].sum())
            cases.append(Case(f"item {label_item(key)}: {names}", events))
        message = "items in several categories: the one of the items table counts, events' own only without it"
        return Finding(kind="item-several-categories", is_error=False, message=message, cases=_most_first(cases))

    def _seen(self) -> tuple[U64, I64, U64, I64]:
        """Gives every (item, tree, category) that items table and events name, and the events that do."""
        items = self._items
        listed = items.category != NO_ID
        parts = [
            (items.item[listed], self._item_tree[listed], items.category[listed], np.zeros(listed.sum(), np.int64))
        ]
        if self._use is not None:
            given = self._use.category != NO_ID
            use = self._use
            parts.append((use.item[given], self._own_tree[given], use.category[given], use.count[given]))
        item, tree, category, count = (np.concatenate(column) for column in zip(*parts, strict=True))
        return item, tree, category, count

    def _events_by_category(self, place: Place, *, item_known: bool | None = None) -> dict[tuple[int, int], int] | None:
        """Gives the number of events by (tree number, category) among those of one place; None when not known."""
        if self._use is None:
            return None
        rows = self._place == place
        if item_known is not None:
            rows &= self._item_known == item_known
        return _count_by_key(self._tree[rows], self._category[rows], self._use.count[rows])


def _count_by_key(tree: I64, category: U64, count: I64) -> dict[tuple[int, int], int]:
    (tree, category), sums = sum_by_keys(count, tree, category)
    keys = zip(tree.tolist(), category.tolist(), strict=True)
    return dict(zip(keys, sums.tolist(), strict=True))


def _most_first(cases: list[Case]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=lambda case: (-(case.num_events or 0), case.text)))
