"""Batches of events on their way into the delta: joined, and checked against the contract of docs/data.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from store.dataset.bad_rows import BadRows, RowCheck
from store.delta.batch import ACCEPTED, DUPLICATE, REFUSED, AppendResult
from store.events import EventBatch
from store.fields import NUMBER, ValueColumn, value_type_of
from store.keys import mix
from store.types import MAX_TIMESTAMP_MS, NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.fields import FieldKind, FieldKinds
    from store.types import I64, U8, U64, AnyArray, Bool, NameKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """The events of one transaction, and what has been decided about them so far."""

    events: EventBatch
    """Those of all batches, one after another; their side-info fields are fields of the generation."""
    user_key: U64
    """Mixed id. (N,)"""
    bounds: tuple[int, ...]
    """Rows of batch b: `[bounds[b], bounds[b + 1])`."""
    check: RowCheck
    """Marks refused rows."""
    duplicate: Bool
    """Marks rows that are there already. (N,)"""
    by_user: I64
    """All rows by user key, those of one user in their order. (N,)"""

    def open_rows(self) -> I64:
        """Gives the rows that are not refused, in the order of `by_user`."""
        return self.by_user[self.check.good()[self.by_user]] if self.check.has_refused else self.by_user

    def results(self, sequence: int) -> list[AppendResult]:
        """Gives what became of each batch.

        Args:
            sequence: Last sequence number given.
        """
        outcome: U8 = np.full(len(self.events), ACCEPTED, np.uint8)
        outcome[self.duplicate] = DUPLICATE
        reasons: list[dict[int, str]] = [{} for _ in self.bounds[1:]]
        if self.check.has_refused:
            outcome[~self.check.good()] = REFUSED
            self._explain(reasons)
        return [
            AppendResult(result=outcome[start:stop], reasons=reasons[at], sequence=sequence)
            for at, (start, stop) in enumerate(pairwise(self.bounds))
        ]

    def _explain(self, reasons: list[dict[int, str]]) -> None:
        bad = BadRows(max_bad_rows=self.bounds[-1])
        self.check.report(bad, "", lambda row: row)
        batch = np.searchsorted(self.bounds, [row.line for row in bad.rows], side="right") - 1
        for at, row in zip(batch.tolist(), bad.rows, strict=True):
            reasons[at][row.line - self.bounds[at]] = row.reason


def take_in(batches: Sequence[EventBatch], kinds: FieldKinds, now_ms: int, max_skew_ms: int) -> Intake:
    """Joins batches and refuses the rows that break the contract.

    Args:
        batches: In the order in which they came.
        kinds: Side-info fields of the generation.
        now_ms: The time of this machine, milliseconds UTC.
        max_skew_ms: How far an event may be in its future.
    """
    bounds = (0, *accumulate(map(len, batches)))
    check = RowCheck(bounds[-1])
    refused = {
        start + row: reason
        for start, batch in zip(bounds[:-1], batches, strict=True)
        for row, reason in batch.refused.items()
    }
    if refused:
        mask = np.zeros(bounds[-1], np.bool_)
        mask[list(refused)] = True
        check.refuse(mask, refused.__getitem__)
    events = _join(batches, bounds, dict(kinds), check)
    _check_values(events, check, now_ms, max_skew_ms)
    user_key = mix(events.user)
    return Intake(
        events=events,
        user_key=user_key,
        by_user=user_key.argsort(kind="stable"),
        bounds=bounds,
        check=check,
        duplicate=np.zeros(len(events), np.bool_),
    )


def _check_values(events: EventBatch, check: RowCheck, now_ms: int, max_skew_ms: int) -> None:
    reserved = np.uint64(NO_ID)
    times = events.timestamp_ms
    latest_ms = min(now_ms + max_skew_ms, MAX_TIMESTAMP_MS)
    bad = (events.user == reserved) | (events.item == reserved) | (times < 0) | (times > latest_ms)
    if bad.any():
        _explain_values(events, check, now_ms, max_skew_ms)
    if not all(events.domain):
        check.refuse(np.array([not word for word in events.domain]), lambda row: "domain: missing")
    if not all(events.action):
        check.refuse(np.array([not word for word in events.action]), lambda row: "action: missing")
    for name, column in events.fields.items():
        if value_type_of(column) is NUMBER:
            check.refuse(np.isinf(column), partial(_infinite, name, column))


def _explain_values(events: EventBatch, check: RowCheck, now_ms: int, max_skew_ms: int) -> None:
    reserved = np.uint64(NO_ID)
    check.refuse(events.user == reserved, lambda row: "user: 2**64 - 1 is reserved and no user")
    check.refuse(events.item == reserved, lambda row: "item: 2**64 - 1 is reserved and no item")
    times = events.timestamp_ms
    check.refuse(
        (times < 0) | (times > MAX_TIMESTAMP_MS),
        lambda row: f"timestamp_ms: {times[row]} is outside 0 .. {MAX_TIMESTAMP_MS} (milliseconds UTC)",
    )
    check.refuse(
        times > now_ms + max_skew_ms,
        lambda row: (
            f"timestamp_ms: {times[row]} is {times[row] - now_ms} ms ahead of this machine's clock, more than "
            f"the {max_skew_ms} ms allowed"
        ),
    )


def _join(
    batches: Sequence[EventBatch], bounds: Sequence[int], kinds: Mapping[str, FieldKind], check: RowCheck
) -> EventBatch:
    fields: dict[str, ValueColumn] = {}
    for (start, stop), batch in zip(pairwise(bounds), batches, strict=True):
        for name, column in batch.fields.items():
            values = value_type_of(column)
            if kinds.get(name) == values.kind:
                fields.setdefault(name, values.missing(bounds[-1]))[start:stop] = column
            else:
                mask = np.zeros(bounds[-1], np.bool_)
                mask[start:stop] = values.given(column)
                check.refuse(mask, partial(_wrong_field, name, kinds.get(name)))
    if len(batches) == 1:
        return batches[0] if fields.keys() == batches[0].fields.keys() else replace(batches[0], fields=fields)
    return EventBatch(
        user=np.concatenate([batch.user for batch in batches]),
        item=np.concatenate([batch.item for batch in batches]),
        category=np.concatenate([batch.category for batch in batches]),
        timestamp_ms=np.concatenate([batch.timestamp_ms for batch in batches]),
        domain=list(chain.from_iterable(batch.domain for batch in batches)),
        action=list(chain.from_iterable(batch.action for batch in batches)),
        scene=list(chain.from_iterable(batch.scene for batch in batches)),
        key=np.concatenate([batch.key for batch in batches]),
        fields=fields,
        names=_join_names(batches),
    )


def _join_names(batches: Sequence[EventBatch]) -> dict[NameKind, dict[int, str]]:
    names: dict[NameKind, dict[int, str]] = {}
    for batch in batches:
        for kind, mine in batch.names.items():
            # Of two names of one id the first stays, as in the delta.
            names[kind] = {**mine, **names.get(kind, {})}
    return names


def _infinite(name: str, column: AnyArray, row: int) -> str:
    return f"{name}: {column[row]} is no finite float32"


def _wrong_field(name: str, kind: FieldKind | None, row: int) -> str:
    if kind is None:
        return f"{name}: is no column of this store's behaviors"
    return f"{name}: must be a {'number' if kind == 'number' else 'string or an id'} in this store"
