"""What stage two counts of its calls to search."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from serving.calling.circuit import Circuit, CircuitState

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry


class SearchCallMetrics:
    """A `CallObserver` that counts. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "lookback_search_calls", "Calls to search by gRPC status, retries included.", ("code",), registry=registry
        )
        self.retries = Counter(
            "lookback_search_retries", "Calls to search that could be made again.", ("result",), registry=registry
        )
        self.state = Gauge(
            "lookback_circuit_state", "Whether search is asked: 1 = so it is.", ("state",), registry=registry
        )

    def watch(self, circuit: Circuit) -> None:
        """Shows the state of a circuit from now on."""
        for state in CircuitState:
            self.state.labels(state.value).set_function(partial(_is_in, circuit, state))

    def called(self, code: grpc.StatusCode) -> None:
        """Counts a call."""
        self.calls.labels(code.name).inc()

    def retried(self, *, sent: bool) -> None:
        """Counts a call that could be made again."""
        self.retries.labels("sent" if sent else "over_budget").inc()


def _is_in(circuit: Circuit, state: CircuitState) -> float:
    return float(circuit.state is state)
