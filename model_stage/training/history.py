"""What users did, encoded once each as what is retrieved for them is, and which of it came before each request.

    user 7:  b0 b1 b2 b3 b4    user 9:  b5 b6          rows, oldest first within a user
    request of user 7 before b3:  first 0, stop 3      of user 9 after all:  first 5, stop 7

Legend: H rows, R requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from store.columns import Columns
from store.lists import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.encoding.ancestors import AncestorEncoder
    from model_stage.types import RankRequest
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot
    from store.types import I32, I64, U64


class Span(NamedTuple):
    """Which rows came before a request."""

    first: int
    stop: int
    as_of_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRows(Columns):
    """Encoded behaviors of users, one user after another, the oldest first, as columns of length H."""

    node: I32
    """Row in the tree vocabulary."""
    side: I32
    """Rows of the schema's behavior fields. (H, number of fields)"""
    timestamp_ms: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Rows of users, and the histories of several requests as spans of them."""

    rows: UserRows
    first: I64
    """(R,)"""
    stop: I64
    """(R,)"""
    as_of_ms: I64
    """(R,)"""

    @staticmethod
    def of(spans_of: list[Span], rows: UserRows) -> Histories:
        """Gives the histories of some requests, at least one."""
        first, stop, as_of_ms = (np.array(column, np.int64) for column in zip(*spans_of, strict=True))
        return Histories(rows=rows, first=first, stop=stop, as_of_ms=as_of_ms)

    def take(self, requests: I64) -> Histories:
        """Gives the histories of some requests with rows of their own, one after another. Copies."""
        lengths = self.lengths[requests]
        at, offsets = spans(self.first[requests], lengths)
        rows = self.rows
        return Histories(
            # `take` of numpy, which is faster than an index where rows have several numbers.
            rows=UserRows(
                node=rows.node.take(at), side=rows.side.take(at, axis=0), timestamp_ms=rows.timestamp_ms.take(at)
            ),
            first=offsets[:-1],
            stop=offsets[1:],
            as_of_ms=self.as_of_ms[requests],
        )

    @property
    def lengths(self) -> I64:
        """Behaviors of each history. (R,)."""
        return self.stop - self.first

    @property
    def offsets(self) -> I64:
        """Where each history begins, and the end, once `take` has put them one after another. (R + 1,)."""
        return np.concatenate((self.first[:1], self.stop))

    @property
    def interval_ms(self) -> I64:
        """As-of time less each row's time, positive, once `take` has put them one after another."""
        return np.repeat(self.as_of_ms, self.lengths) - self.rows.timestamp_ms


@dataclass(slots=True, kw_only=True)
class HistoryReader:
    """Reads histories from a store generation, for one thread at a time; never an event at or after the as-of time."""

    snapshot: Snapshot
    """The store generation."""
    encoder: AncestorEncoder
    """What encodes the retrieved behaviors."""
    newest: int | None = None
    """Of each history, the newest behaviors only; None = all."""
    _first: dict[int, int] = field(default_factory=dict)
    """First row of each user."""

    def users(self, impressions: Impressions) -> Iterator[UserRows]:
        """Gives the rows of the users of some impressions, as of the last of each, a user at a time."""
        users, last_ms = _last_times(impressions)
        count = 0
        for user, before_ms in zip(users.tolist(), last_ms.tolist(), strict=True):
            rows = self._rows(user, before_ms)
            self._first[user] = count
            count += len(rows)
            yield rows

    def span(self, request: RankRequest) -> Span:
        """Gives which of the rows that `users` gave came before a request; none for an unknown user."""
        first = self._first[request.user]
        stop = first + self.snapshot.user(request.user).columns.num_before(request.as_of_ms)
        return Span(first if self.newest is None else max(first, stop - self.newest), stop, request.as_of_ms)

    def _rows(self, user: int, before_ms: int) -> UserRows:
        view = self.snapshot.user(user)
        positions = view.positions(as_of_ms=before_ms)
        behaviors = view.behaviors(positions)
        fields = view.behavior_fields(positions, self.encoder.side_info)
        node, side = self.encoder.behavior_rows(behaviors, self.snapshot.vocabulary, fields, self.snapshot.generation)
        return UserRows(node=node, side=side, timestamp_ms=behaviors.timestamp_ms)


def _last_times(impressions: Impressions) -> tuple[U64, I64]:
    """Gives the users of impressions, ascending, and the time of the last impression of each."""
    order = np.lexsort((impressions.timestamp_ms, impressions.user))
    user = impressions.user[order]
    (last,) = np.nonzero(np.append(user[1:] != user[:-1], True)[: len(user)])
    return user[last], impressions.timestamp_ms[order][last]
