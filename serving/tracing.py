"""Trace context of the W3C: which trace a request belongs to, carried on to everybody whom it makes us ask.

Without `--trace` a server passes on what a request came with, and is not part of the trace itself.
"""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from serving.laps import Laps

Metadata = tuple[tuple[str, str], ...]
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace_id>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")


class Trace:
    """The place of one request in its trace."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Reads the context that a request came with; one that is no context counts as none."""
        found = dict(metadata)
        parent, state = (found.get(key) for key in ("traceparent", "tracestate"))
        match = _TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
        self.trace_id = match["trace_id"] if match is not None else ""
        """Empty = it belongs to none."""
        self.came_with: Metadata = ()
        if match is not None:
            self.came_with = (("traceparent", match[0]),)
            if isinstance(state, str) and _TRACESTATE.fullmatch(state):
                self.came_with += (("tracestate", state),)

    def calling(self, method: str) -> AbstractContextManager[Metadata]:
        """Gives what to send along with a call that this request makes necessary, for the time of that call."""
        return nullcontext(self.came_with)

    def end(self, code: str, request_id: str, laps: Laps, ended_s: float) -> None:
        """Notes how the request ended, its stages, and when it did; a point of `time.monotonic`."""


class Tracer:
    """Makes a `Trace` of every request; this one takes no part itself."""

    def begin(self, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> Trace:
        """Begins a request of a method, given by its full name with slashes."""
        return Trace(metadata)

    def close(self) -> None:
        """Sends what has not been sent."""


CURRENT_TRACE: ContextVar[Trace | None] = ContextVar("CURRENT_TRACE", default=None)


def calling(method: str) -> AbstractContextManager[Metadata]:
    """Gives what to send along with a call: in a server, that of the request in hand; else that of the program.

    A program that traces itself has OpenTelemetry loaded, and its own context is asked for; else there is nothing.
    """
    trace = CURRENT_TRACE.get()
    if trace is not None:
        return trace.calling(method)
    carrier: dict[str, str] = {}
    loaded = sys.modules.get("opentelemetry.propagate")
    if loaded is not None:
        loaded.inject(carrier)
    return nullcontext(tuple(carrier.items()))
