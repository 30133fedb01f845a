"""What is served: a service, and one method of it with what the edge has to know of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from serving.server.admission import Demand
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc
    from prometheus_client import Counter, Histogram

    from serving.security.roles import Need
    from serving.server.pace import Kind, Priority

LARGEST_READ_EARLY_BYTES = 256 * 2**10
"""1,000 candidates with some thirty covered products each."""
Handler = Any
"""grpc leaves the types of a method handler's messages open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One servicer to serve."""

    name: str
    """Full name, as in the .proto file."""
    add: Callable[[grpc.Server], None]
    """Adds the servicer to a server: the generated `add_...Servicer_to_server`."""
    queued: bool = True
    """Whether its requests need a place in the queue; False for what must get through when the server is full."""
    waits_for_disk: frozenset[str] = frozenset()
    """Methods that wait more than they work: they take no place, and as many are let in as there are threads."""
    first_worker_only: frozenset[str] = frozenset()
    """Methods that the other workers pass on to the first one."""
    priorities: Mapping[str, Priority] = field(default_factory=lambda: MappingProxyType({}))
    """Of the methods that are less urgent than `SERVE`."""
    units: Mapping[str, Callable[[Any], float]] = field(default_factory=lambda: MappingProxyType({}))
    """Methods whose cost depends on the message, each with what gives its units; it must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method behind the edge."""

    name: str
    """Without the service."""
    path: str
    handler: Handler
    largest_bytes: int
    queued: bool
    passed_on: bool
    need: Need | None
    """None = no caller is let in."""
    answered: Counter
    """Counts its answers with status OK and without an experiment."""
    latency_s: Histogram
    queue_wait_s: Histogram
    kind: Kind
    units: Callable[[Any], float] | None
    """Of a message; None = all cost the same."""

    def demand(self, data: bytes, caller: str) -> Demand:
        """Gives what a request will cost, and whose it is.

        A small message is read for that and dropped again, so that those who wait hold no more than their bytes; a
        large one counts as an average one.
        """
        units = self.kind.pace.mean_units
        if self.units is not None and len(data) <= LARGEST_READ_EARLY_BYTES:
            with suppress(Exception):  # what cannot be read is refused when its turn comes
                units = self.units(self.handler.request_deserializer(data))
        return Demand(units, caller)

    def decode(self, data: bytes) -> object:
        """Reads a message.

        Raises:
            InputError: It is too large, or none of this method.
        """
        if len(data) > self.largest_bytes:
            raise InputError(f"{self.name}: a request may have {self.largest_bytes} bytes, this one has {len(data)}")
        try:
            return self.handler.request_deserializer(data)
        except Exception as error:
            raise InputError(f"{self.name}: these bytes are no request of this method") from error
