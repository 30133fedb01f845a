"""A request before the first one: what is compiled, mapped or read at its first use is not paid for by a caller."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from search_stage.retrieve import retrieve
from store.errors import CorruptRecordError, InputError
from store.retrieval import Candidates, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from search_stage.config import SearchConfig
    from search_stage.retrieve import Serving
    from store.reading.snapshot import Snapshot

_log = logging.getLogger(__name__)

_CANDIDATES = 8


def warm_up(snapshot: Snapshot, serving: Serving, config: SearchConfig, recorded: Sequence[SearchRequest] = ()) -> None:
    """Answers a request for one user of the base and for one with live events, where there are such, and drops it.

    Then it answers recorded requests. A user whose record is damaged is skipped: the others can be served; so is a
    recorded request that this store or this configuration refuses, for it was asked of others.

    Raises:
        Exception: Whatever the pair of generations fails with; it is not fit to be served.
    """
    for user in _users(snapshot):
        try:
            columns = snapshot.user(user).columns
        except CorruptRecordError as error:
            _log.warning("skipped in the warm-up: %s", error)
            continue
        candidates = Candidates.by_id(np.unique(columns.item)[:_CANDIDATES].astype(np.uint64))
        as_of_ms = int(columns.timestamp_ms.max(initial=0)) + 1
        request = SearchRequest(user=user, as_of_ms=as_of_ms, candidates=candidates, with_names=True)
        retrieve(snapshot, serving, config, request, lambda: None)
    for request in recorded:
        try:
            retrieve(snapshot, serving, config, request, lambda: None)
        except (InputError, CorruptRecordError) as error:
            _log.warning("skipped in the warm-up: %s", error)


def _users(snapshot: Snapshot) -> Iterator[int]:
    yield from islice(snapshot.user_ids(), 1)
    if snapshot.live is not None:
        yield from islice(snapshot.live.user_ids(), 1)
