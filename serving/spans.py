"""Spans of OpenTelemetry: a request, each of its stages, and each call that it makes; the extra `trace`.

Where they go, how many are taken and what the service is called there, the standard `OTEL_...` variables say.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from serving.tracing import Metadata, Trace, Tracer
from store.errors import InputError

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise InputError(f"trace: needs OpenTelemetry ({error}); pip install 'lookback[trace]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span
    from opentelemetry.trace import Tracer as SpanMaker

    from serving.laps import Laps

_PROPAGATOR = TraceContextTextMapPropagator()


class SpanTracer(Tracer):
    """Takes part in traces; thread-safe. It never waits for whoever collects them."""

    def __init__(self, service: str, processor: SpanProcessor | None = None) -> None:
        """Begins to take part.

        Args:
            service: Name of this service, unless OTEL_SERVICE_NAME says another one.
            processor: Where spans go; None = by OTLP over HTTP, in batches, by a thread of its own.
        """
        name = os.environ.get("OTEL_SERVICE_NAME", service)
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._maker = self._provider.get_tracer("lookback")

    def begin(self, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> Trace:
        """Begins the span of a request, in the trace that it came with or in a new one."""
        return SpanTrace(self._maker, path, metadata)

    def close(self) -> None:
        """Sends what has not been sent; ends the thread."""
        self._provider.shutdown()


class SpanTrace(Trace):
    """The span of one request."""

    def __init__(self, maker: SpanMaker, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        super().__init__(metadata)
        self._maker = maker
        came_from = _PROPAGATOR.extract(dict(self.came_with))
        service, _, method = path.lstrip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        self._span: Span = maker.start_span(path.lstrip("/"), came_from, SpanKind.SERVER, attributes)
        self._inside: Context = set_span_in_context(self._span)
        self.trace_id = format_trace_id(self._span.get_span_context().trace_id)

    @contextmanager
    def calling(self, method: str) -> Iterator[Metadata]:
        """Spans a call; what is sent along makes its span the parent of the other service's."""
        span = self._maker.start_span(
            method, self._inside, SpanKind.CLIENT, {"rpc.system": "grpc", "rpc.method": method}
        )
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(span))
        try:
            yield tuple(carrier.items())
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()

    def end(self, code: str, request_id: str, laps: Laps, ended_s: float) -> None:
        """Ends the span; its stages become spans within it."""
        since_epoch_s = time.time() - time.monotonic()
        if self._span.is_recording():
            self._span.set_attribute("rpc.response.status_code", code)
            self._span.set_attribute("lookback.request_id", request_id)
            if code != "OK":
                self._span.set_status(Status(StatusCode.ERROR, code))
            for stage, start_s, end_s in laps.all():
                span = self._maker.start_span(stage, self._inside, start_time=int(1e9 * (start_s + since_epoch_s)))
                span.end(int(1e9 * (end_s + since_epoch_s)))
        self._span.end(int(1e9 * (ended_s + since_epoch_s)))  # and not now: the answer has long left
