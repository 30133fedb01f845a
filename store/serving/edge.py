"""The one way into every unary method of ours: id, deadline, place in the queue, status, metrics, log line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from store.serving.call import CURRENT_CALL, Call, check_request_id, deadline_of, request_id_of
from store.serving.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from store.serving.admission import Admission
    from store.serving.metrics import ServerMetrics
    from store.serving.status import StatusTable

Handler = Any
"""grpc leaves the types of a method handler's messages open."""


class Edge(grpc.ServerInterceptor):
    """Stands before the methods of the given services; health and reflection pass untouched.

    Args:
        services: Full names of the services it stands before, and whether their requests need a place in the queue
            (an operator's call must get through when the server is full).
    """

    def __init__(
        self,
        services: dict[str, bool],
        table: StatusTable,
        admission: Admission,
        metrics: ServerMetrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._services = services
        self._table = table
        self._admission = admission
        self._metrics = metrics
        self._log = log

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Handler], handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Gives the method's handler wrapped; a method that does not exist stays that."""
        details = handler_call_details
        handler = continuation(details)
        service, _, _ = details.method.lstrip("/").partition("/")
        if handler is None or service not in self._services:
            return handler
        inner, method, queued = handler.unary_unary, details.method, self._services[service]

        def answer(request: object, context: grpc.ServicerContext) -> object:
            return self._answer(inner, method, queued, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _answer(
        self,
        inner: Callable[[object, grpc.ServicerContext], object],
        method: str,
        queued: bool,
        request: object,
        context: grpc.ServicerContext,
    ) -> object:
        started_s = time.monotonic()
        call = Call(request_id=request_id_of(request), deadline=deadline_of(context))
        token = CURRENT_CALL.set(call)
        self._metrics.in_flight.inc()
        code = grpc.StatusCode.OK
        try:
            check_request_id(call.request_id)
            with self._admission.enter(call.deadline) if queued else self._admission.attend():
                call.check_time()
                return inner(request, context)
        except Exception as error:
            code = self._table.row(error).code
            self._refuse(error, code, call, context)
        finally:
            CURRENT_CALL.reset(token)
            self._metrics.in_flight.dec()
            self._record(method, code, call, time.monotonic() - started_s)

    def _refuse(self, error: Exception, code: grpc.StatusCode, call: Call, context: grpc.ServicerContext) -> NoReturn:
        if not self._table.row(error).tell:
            self._log.error("request failed", request_id=call.request_id[:256], exc_info=error)
        if isinstance(error, OverloadedError):
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(error.retry_after_ms)),))
        context.abort(code, self._table.details(error, call.request_id))
        raise AssertionError("abort returned")

    def _record(self, method: str, code: grpc.StatusCode, call: Call, duration_s: float) -> None:
        self._metrics.requests.labels(method, code.name).inc()
        self._metrics.latency_s.labels(method).observe(duration_s)
        self._log.info(
            "request",
            method=method,
            code=code.name,
            request_id=call.request_id[:256],
            duration_ms=round(1000 * duration_s, 3),
        )
