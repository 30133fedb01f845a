"""A search with the user's whole history: the answer of `Search` joined with the pages of `GetHistory`.

Legend: N behaviors of the history, U behaviors of the answer of search.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from model_stage.errors import SearchUnavailableError
from store.columns import join_column
from store.errors import InputError
from store.retrieval import BehaviorColumns, HistoryPage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from store.retrieval import Names, SearchResult
    from store.types import I64, AnyArray

ATTEMPTS = 3
"""Searches to make while generations that are published, or deletions, tear search and pages apart."""


def search_whole(search: Callable[[], SearchResult], page: Callable[[str, int], HistoryPage]) -> SearchResult:
    """Gives an answer of search whose behaviors are the whole history, all of one state of the store.

    Args:
        search: Searches.
        page: Gives the page of a token, the first one of an empty token, as of a number of the delta.

    Raises:
        SearchUnavailableError: As `search` and `page`; or the store changed under every attempt.
    """
    for _ in range(ATTEMPTS):
        found = search()
        try:
            pages = _pages(page, found.delta_sequence)
        except InputError as error:
            if not str(error).startswith("delta_sequence:"):  # a generation that has merged later events
                raise
            continue
        history = _oldest_first(pages)
        one_store = {(each.store_generation, each.vocabulary) for each in pages}
        if one_store == {(found.store_generation, found.vocabulary)} and len(history.behaviors) == found.num_behaviors:
            whole = with_history(found, history)
            if whole is not None:
                return whole
    raise SearchUnavailableError(f"the user's history changed while it was read, {ATTEMPTS} times one after another")


def with_history(found: SearchResult, history: HistoryPage) -> SearchResult | None:
    """Gives an answer of search with the user's whole history for its behaviors; None = they are not all in it.

    Args:
        found: The answer.
        history: All behaviors before the as-of time as one page, but the oldest first.
    """
    place = places_in(
        (*_columns(history.behaviors), *(history.behavior_fields[name] for name in found.behavior_fields)),
        (*_columns(found.behaviors), *found.behavior_fields.values()),
    )
    if place is None:
        return None
    count = len(history.behaviors)
    return replace(
        found,
        behaviors=history.behaviors,
        behavior_fields={name: history.behavior_fields[name] for name in found.behavior_fields},
        index=place[found.index].astype(np.int32),
        num_newest=count,
        names=None if found.names is None else _spread_names(found.names, place, count),
    )


def places_in(whole: Sequence[AnyArray], some: Sequence[AnyArray]) -> I64 | None:
    """Gives the row of each of some rows in a whole that has them all, in the same order; None = it has not.

    Of equal rows of the whole the last ones are taken: they say the same.

    Args:
        whole: Columns. (N,) each.
        some: The same columns. (U,) each.
    """
    num_whole = len(whole[0])
    bits = [_bits(np.concatenate(pair)) for pair in zip(whole, some, strict=True)]
    order = np.lexsort(bits)  # stable: of equal rows those of the whole come first
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in bits], axis=0)
    group = np.cumsum(is_first) - 1
    asked = order >= num_whole
    asked_of_group = np.bincount(group, asked, minlength=1).astype(np.int64)
    (at,) = np.nonzero(asked)
    found = order[at - asked_of_group[group[at]]]
    if np.any(2 * asked_of_group > np.bincount(group, minlength=1)):
        return None
    place = np.empty(len(at), np.int64)
    place[order[at] - num_whole] = found
    return place


def _bits(values: AnyArray) -> AnyArray:
    """Gives values as unsigned numbers of the same bytes: of these one "missing" is like another."""
    return values.view(f"u{values.dtype.itemsize}")


def _columns(behaviors: BehaviorColumns) -> list[AnyArray]:
    return [getattr(behaviors, field.name) for field in fields(behaviors)]


def _pages(page: Callable[[str, int], HistoryPage], delta_sequence: int) -> list[HistoryPage]:
    pages = [page("", delta_sequence)]
    while token := pages[-1].next_page_token:
        pages.append(page(token, delta_sequence))
    return pages


def _oldest_first(pages: Sequence[HistoryPage]) -> HistoryPage:
    lengths = [len(page.behaviors) for page in pages]
    behaviors = BehaviorColumns.join([page.behaviors for page in pages]).take(slice(None, None, -1))
    sides = join_column([page.behavior_fields for page in pages], lengths)
    return replace(
        pages[0], behaviors=behaviors, behavior_fields={name: values[::-1] for name, values in sides.items()}
    )


def _spread_names(names: Names, place: I64, count: int) -> Names:
    """Gives names of `count` behaviors, empty where there were none of a behavior."""

    def spread(known: tuple[str, ...]) -> tuple[str, ...]:
        whole = [""] * count
        for at, name in zip(place.tolist(), known, strict=True):
            whole[at] = name
        return tuple(whole)

    return replace(
        names,
        behavior_items=spread(names.behavior_items),
        behavior_categories=spread(names.behavior_categories),
        behavior_fields={field: spread(values) for field, values in names.behavior_fields.items()},
    )
