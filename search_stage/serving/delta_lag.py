"""How far the base that is served is behind the live events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from store.publishing.manifest import created_s

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from store.behavior_store import BehaviorStore


class DeltaLag:
    """Shows how many live events the next rebuild has to merge, and for how long that has been due; reads when asked.

    Every search reads what is not merged besides the record: the lag costs time, and never an event.
    """

    def __init__(self, store: BehaviorStore, registry: CollectorRegistry) -> None:
        self._store = store
        Gauge(
            "lookback_delta_lag_events", "Live events that the base served has not merged.", registry=registry
        ).set_function(self.events)
        Gauge(
            "lookback_delta_lag_seconds",
            "Age of the base served while there are live events that it has not merged; else 0.",
            registry=registry,
        ).set_function(self.seconds)

    def events(self) -> float:
        """Gives the number of events; deletions count as one each."""
        with self._store.snapshot() as snapshot:
            return float(max(0, snapshot.delta_sequence - snapshot.meta.delta_sequence))

    def seconds(self) -> float:
        """Gives the age of the base, or 0 if there is nothing to merge."""
        since_s = created_s(self._store.generation)
        if since_s is None or not self.events():
            return 0.0
        return max(0.0, time.time() - since_s)
