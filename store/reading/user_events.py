"""One user's behaviors as they were written, with everything that is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.columns import Columns
from store.events import STREAMS_PER_DOMAIN
from store.fields import VALUE_TYPES, FieldKinds
from store.records.rows import widen
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.delta.rows import DeltaRows
    from store.reading.live_delta import LiveDelta
    from store.types import F32, I64, U8, U16, U64, UserColumns, UserExtras


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvents(Columns):
    """Behaviors in time order, ties in event order; columns of length N."""

    item: U64
    category: U64
    """Category id as given, in the name space of the domain's tree; `NO_ID` = none."""
    timestamp_ms: I64
    domain: U8
    """Codes of the snapshot's vocabulary; so are `action` and `scene`."""
    action: U8
    scene: U16
    key: U64
    """Event id; `NO_ID` = none."""
    fields: Mapping[str, U64 | F32]
    """Side-info fields by name: ids, `NO_ID` = missing, or float32, NaN = missing."""

    @staticmethod
    def of_record(columns: UserColumns, extras: UserExtras, kinds: FieldKinds) -> UserEvents:
        """Gives the behaviors of a record."""
        order = columns.order.astype(np.int64)
        domain, action = columns.domain_and_action(order)
        key = np.full(len(order), NO_ID, np.uint64) if extras.key is None else extras.key[order]
        return UserEvents(
            item=columns.item[order].astype(np.uint64),
            category=widen(extras.category[order]),
            timestamp_ms=columns.timestamp_ms[order],
            domain=domain,
            action=action,
            scene=columns.scene[order].astype(np.uint16),
            key=key,
            fields={
                name: widen(column[order]) if kind == "id" else column[order]
                for (name, kind), column in zip(kinds, extras.fields, strict=True)
            },
        )

    @staticmethod
    def of_delta(rows: DeltaRows, live: LiveDelta, kinds: FieldKinds) -> UserEvents:
        """Gives the behaviors of delta rows, in the order of their sequence numbers.

        Args:
            rows: Rows of one user.
            live: The delta they come from.
            kinds: Side-info fields of the generation.
        """
        stream, codes = live.stream_of(rows), live.words.field_codes
        return UserEvents(
            item=rows.item,
            category=rows.category,
            timestamp_ms=rows.timestamp_ms,
            domain=(stream // STREAMS_PER_DOMAIN).astype(np.uint8),
            action=(stream % STREAMS_PER_DOMAIN).astype(np.uint8),
            scene=live.words.recode.scene[rows.scene],
            key=rows.key,
            fields={
                name: rows.fields[codes[name]]
                if codes.get(name, -1) in rows.fields
                else VALUE_TYPES[kind].missing(len(rows))
                for name, kind in kinds
            },
        )


def join_events(base: UserEvents, live: UserEvents) -> UserEvents:
    """Gives the behaviors of two sources in time order; of one time, those of the base first, each in its order."""
    joined = UserEvents.join([base, live])
    return joined.take(np.argsort(joined.timestamp_ms, kind="stable"))
