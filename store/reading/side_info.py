"""Side-info of some of a user's behaviors, without reading that of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.events import missing_field
from store.reading.merge import time_places
from store.records.rows import widen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.delta.rows import DeltaRows
    from store.events import FieldKinds
    from store.types import F32, I64, U64, AnyArray, UserColumns, UserExtras


def side_info_at(
    positions: I64,
    record: tuple[UserColumns, UserExtras] | None,
    live: DeltaRows | None,
    codes: Mapping[str, int],
    kinds: FieldKinds,
    names: tuple[str, ...],
) -> dict[str, U64 | F32]:
    """Gives some side-info fields at some positions of a user's time order, base and delta taken together.

    The plain twin is `UserEvents.fields`, which has them at all positions. Cost: O(positions), and O(log N) for each
    event in the delta.

    Args:
        positions: Any order. (U,)
        record: The user's base rows; None = there are none.
        live: The user's rows in the delta; None = there are none.
        codes: The delta's code of each side-info field.
        kinds: Side-info fields of the generation.
        names: Which of them to give.

    Returns:
        New arrays, (U,) each: ids, `NO_ID` = missing, or float32, NaN = missing.
    """
    in_base, base_at, live_row = _sources(positions, None if record is None else record[0], live)
    place = {name: at for at, (name, _) in enumerate(kinds)}
    out: dict[str, U64 | F32] = {}
    for name in names:
        kind = kinds[place[name]][1]
        values: AnyArray = missing_field(kind, len(positions))
        if record is not None:
            columns, extras = record
            stored = extras.fields[place[name]][columns.order[base_at]]
            values[in_base] = widen(stored) if kind == "id" else stored
        if live is not None and codes.get(name, -1) in live.fields:
            values[~in_base] = live.fields[codes[name]][live_row]
        out[name] = values
    return out


def _sources(positions: I64, base: UserColumns | None, live: DeltaRows | None) -> tuple[AnyArray, I64, I64]:
    """Gives which positions are base rows, their positions among these alone, and the live rows of the others."""
    if live is None:
        return np.ones(len(positions), np.bool_), positions, positions[:0]
    by_time = np.argsort(live.timestamp_ms, kind="stable")
    before = np.zeros(len(by_time), np.int64)  # base rows before each live row; of one time they come first
    if base is not None:
        before[:] = time_places(base, live.timestamp_ms[by_time].tolist())
    live_positions = before + np.arange(len(by_time))
    at = np.searchsorted(live_positions, positions)
    in_base = live_positions[np.minimum(at, len(by_time) - 1)] != positions
    return in_base, (positions - at)[in_base], by_time[at[~in_base]]
