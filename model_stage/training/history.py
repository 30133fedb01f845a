"""Whole histories as of a request, encoded as what was retrieved for it is: what an auxiliary loss attends over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.encoding.batch import rows_of_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.encoding.encoder import RequestEncoder
    from model_stage.types import RankRequest
    from store.reading.snapshot import Snapshot
    from store.types import I32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedHistory:
    """What a user did before a request, oldest first, as columns of length H."""

    node: I32
    """Row in the tree vocabulary."""
    side: I32
    """Rows of the schema's behavior fields. (H, number of fields)"""
    interval_ms: I64
    """As-of time less the behavior's time, positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Histories of several requests, one after another."""

    offsets: I64
    """Where each history begins, and the end. (R + 1,)"""
    node: I32
    side: I32
    interval_ms: I64
    """The columns of `EncodedHistory`."""

    @staticmethod
    def of(histories: Sequence[EncodedHistory]) -> Histories:
        """Gives some histories, at least one, one after another."""
        return Histories(
            offsets=np.cumsum([0, *(len(history.node) for history in histories)], dtype=np.int64),
            node=np.concatenate([history.node for history in histories]),
            side=np.concatenate([history.side for history in histories]),
            interval_ms=np.concatenate([history.interval_ms for history in histories]),
        )

    def take(self, requests: I64) -> Histories:
        """Gives the histories of some requests, in the order asked. Copies."""
        rows, offsets = rows_of_spans(self.offsets, requests)
        return Histories(
            offsets=offsets,
            node=self.node.take(rows),
            side=self.side.take(rows, axis=0),
            interval_ms=self.interval_ms.take(rows),
        )


class HistoryReader:
    """Reads histories from a store generation, for one thread at a time; never an event at or after the as-of time.

    Args:
        snapshot: The store generation.
        encoder: What encodes the retrieved behaviors.
        newest: Of each history, the newest behaviors only; None = all.
    """

    def __init__(self, snapshot: Snapshot, encoder: RequestEncoder, newest: int | None) -> None:
        self._snapshot, self._encoder, self._newest = snapshot, encoder, newest

    def read(self, request: RankRequest) -> EncodedHistory:
        """Gives what the request's user did before it; nothing for an unknown user."""
        user = self._snapshot.user(request.user)
        stop = user.columns.num_before(request.as_of_ms)
        positions = np.arange(0 if self._newest is None else max(stop - self._newest, 0), stop)
        behaviors = user.behaviors(positions)
        fields = user.behavior_fields(positions, self._encoder.side_info)
        node, side = self._encoder.behavior_rows(behaviors, self._snapshot.vocabulary, fields)
        return EncodedHistory(node=node, side=side, interval_ms=request.as_of_ms - behaviors.timestamp_ms)
