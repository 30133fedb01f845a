"""The one way into every unary method of ours: caller, deadline, place in the line, size, id, status, metrics, log."""

from __future__ import annotations

import time
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING, NoReturn

import grpc

from serving.call import CURRENT_CALL, Call, check_request_id, deadline_of, new_request_id, request_id_of
from serving.errors import CallerGoneError, CallerLimitError, DrainingError, OverloadedError, RelayedError
from serving.laps import Laps
from serving.limits import largest_bytes_of
from serving.security.roles import Need, Role, need_of
from serving.server.caller import caller_of
from serving.server.method import Method
from serving.server.pace import Kind, Priority
from serving.server.pool import afterwards
from serving.server.turn_away import turning_away
from serving.siblings import REQUEST_ID
from serving.slot import FIRST
from serving.tracing import CURRENT_TRACE, Tracer
from serving.wire.columns import refusal_to_metadata
from store.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from structlog.typing import FilteringBoundLogger

    from serving.metrics import ServerMetrics
    from serving.security.gate import Gate
    from serving.security.tokens import Credential
    from serving.server.admission import Admission, Place
    from serving.server.method import Handler, Service
    from serving.server.status import StatusTable
    from serving.siblings import Siblings
    from serving.tracing import Trace

_OK = grpc.StatusCode.OK
_KNOWN = Need(None)
_NEEDS = {"grpc.reflection.v1alpha.ServerReflection": Need(Role.ADMIN)}
"""Of what is no service of ours; health in detail is for any known caller."""


class Edge(grpc.ServerInterceptor):
    """Stands before the methods of the given services; health and reflection only pass its gate.

    A request is counted before its answer leaves, so that whoever has the answer finds it in the metrics; its log line
    is written when the answer is on its way.

    Messages come and go as bytes: what cannot be read is the caller's fault like any other bad request, and a request
    for another worker is passed on as it is.
    """

    def __init__(
        self,
        services: Sequence[Service],
        table: StatusTable,
        gate: Gate,
        admission: Admission,
        metrics: ServerMetrics,
        log: FilteringBoundLogger,
        siblings: Siblings | None = None,
        slow_s: float = 0.0,
        tracer: Tracer | None = None,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepares to answer.

        Args:
            services: What it stands before.
            table: Statuses of errors.
            gate: Who may call what.
            admission: Who may work.
            metrics: What to count in.
            log: Gets a line for every request.
            siblings: The other workers; None = there are none.
            slow_s: Requests that take longer are logged with their stages; 0 = none are.
            tracer: What gives each request its place in a trace; None = one that takes no part itself.
            is_full: Says whether all threads are taken that requests of a queue may have.
        """
        self._services = {service.name: service for service in services}
        self._table = table
        self._gate = gate
        self._admission = admission
        self._metrics = metrics
        self._log = log
        self._siblings = siblings
        self._slow_s = slow_s
        self._tracer = tracer or Tracer()
        self._is_full = is_full
        self._handlers: dict[str, Handler] = {}
        self._refusals: dict[str, Handler] = {}
        metrics.in_flight.set_function(lambda: admission.inside)
        metrics.waiting.set_function(lambda: admission.waiting)

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Handler], handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Gives the method's handler wrapped; a method that does not exist stays that."""
        path = handler_call_details.method
        if path in self._refusals and self._is_full():
            return self._refusals[path]
        wrapped = self._handlers.get(path)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        name, _, method_name = path.lstrip("/").partition("/")
        service = self._services.get(name)
        if handler is None or service is None:
            return self._gate.guarded(path, handler, _NEEDS.get(name, _KNOWN))
        method = Method(
            name=method_name,
            path=path,
            handler=handler,
            largest_bytes=largest_bytes_of(handler.unary_unary),
            need=need_of(handler.unary_unary),
            queued=service.queued and method_name not in service.waits_for_disk,
            passed_on=method_name in service.first_worker_only
            and self._siblings is not None
            and FIRST in self._siblings.numbers,
            answered=self._metrics.requests.labels(path, _OK.name, ""),
            latency_s=self._metrics.latency_s.labels(path),
            queue_wait_s=self._metrics.queue_wait_s.labels(path),
            kind=Kind(priority=service.priorities.get(method_name, Priority.SERVE)),
            units=service.units.get(method_name),
        )
        wrapped = grpc.unary_unary_rpc_method_handler(lambda data, context: self._answer(method, data, context))
        self._handlers[path] = wrapped  # of a known service: no caller can make this grow
        if service.queued:
            self._refusals[path] = turning_away(partial(self._turn_away, path))
        return wrapped

    def _answer(self, method: Method, data: bytes, context: grpc.ServicerContext) -> bytes:
        started_s = time.monotonic()
        from_worker = self._siblings is not None and context.peer().startswith("unix:")
        siblings = None if from_worker else self._siblings
        call = Call(deadline=deadline_of(context), from_worker=from_worker, siblings=siblings)
        trace = self._tracer.begin(method.path, context.invocation_metadata())
        code = _OK
        try:
            credential = self._identify(method, call, context)
            with self._gate.place(credential), self._place(method, data, call) as place:
                if place is not None:
                    call.waited_s = place.waited_s
                    call.laps = Laps()
                    method.queue_wait_s.observe(place.waited_s)
                call.check_time()
                if not context.is_active():
                    raise CallerGoneError("the caller has cancelled the call")
                # A small message can become many objects: only those that have a place are read, and what they became
                # is freed before the place is.
                message = method.decode(data)
                try:
                    call.request_id = _checked_id(message, context, from_worker=from_worker)
                    if method.passed_on:
                        assert self._siblings is not None
                        remaining_s = call.deadline.remaining_s()
                        with trace.calling(method.path) as along:
                            return self._siblings.ask(
                                FIRST, method.path, data, remaining_s, call.request_id, call.caller, along
                            )
                    answer = self._work(method, message, call, context, trace)
                    if place is not None:
                        place.units = call.units if method.units is not None else 1.0
                    return answer
                except Exception as error:
                    call.laps.lap("unfinished")
                    clear_frames(error.__traceback__)
                    raise
                finally:
                    del message
        except Exception as error:
            code = self._table.row(error).code
            call.request_id = call.request_id or new_request_id()
            if isinstance(error, OverloadedError | CallerLimitError | DrainingError):
                self._metrics.refused.labels(method.path, error.reason).inc()
            self._refuse(error, code, call, context)
        finally:
            self._record(method, code, call, started_s, trace)

    def _turn_away(self, path: str, context: grpc.ServicerContext) -> NoReturn:
        """Refuses a request that has no thread; it is counted, and has no line in the log."""
        error = self._admission.refusal()
        code = self._table.row(error).code
        self._metrics.refused.labels(path, error.reason).inc()
        self._metrics.requests.labels(path, code.name, "").inc()
        context.set_trailing_metadata(_trailing_metadata(error))
        context.abort(code, self._table.details(error, ""))
        raise AssertionError("abort returned")

    def _place(self, method: Method, data: bytes, call: Call) -> AbstractContextManager[Place | None]:
        if not method.queued:
            return self._admission.attend()
        return self._admission.enter(call.deadline, method.kind, partial(method.demand, data, call.caller))

    def _identify(self, method: Method, call: Call, context: grpc.ServicerContext) -> Credential | None:
        # A call from another worker was let in there.
        credential = None if call.from_worker else self._gate.admit(context, method.need)
        call.caller = self._gate.name_of(credential, context) or caller_of(context)
        return credential

    @staticmethod
    def _work(method: Method, message: object, call: Call, context: grpc.ServicerContext, trace: Trace) -> bytes:
        token, traced = CURRENT_CALL.set(call), CURRENT_TRACE.set(trace)
        try:
            answer: bytes = method.handler.response_serializer(method.handler.unary_unary(message, context))
            call.laps.lap("respond")
            return answer
        finally:
            CURRENT_CALL.reset(token)
            CURRENT_TRACE.reset(traced)

    def _refuse(self, error: Exception, code: grpc.StatusCode, call: Call, context: grpc.ServicerContext) -> NoReturn:
        if not self._table.row(error).tell:
            self._log.error("request failed", request_id=call.request_id[:256], exc_info=error)
        context.set_trailing_metadata(_trailing_metadata(error))
        context.abort(code, self._table.details(error, call.request_id))
        raise AssertionError("abort returned")

    def _record(self, method: Method, code: grpc.StatusCode, call: Call, started_s: float, trace: Trace) -> None:
        ended_s = time.monotonic()
        if not call.from_worker:  # else the worker it came to counts it
            if code is _OK and not call.experiment:
                method.answered.inc()
            else:
                self._metrics.requests.labels(method.path, code.name, call.experiment).inc()
            method.latency_s.observe(ended_s - started_s)
            if method.need is not None and method.need.audited:
                self._log.info(
                    "audit", method=method.path, caller=call.caller, code=code.name, request_id=call.request_id[:256]
                )
        afterwards(partial(self._tell, method, code, call, started_s, ended_s, trace))

    def _tell(
        self, method: Method, code: grpc.StatusCode, call: Call, started_s: float, ended_s: float, trace: Trace
    ) -> None:
        """Says what became of a request and, of a slow one, where its time went."""
        duration_s = ended_s - started_s
        trace.end(code.name, call.request_id[:256], call.laps, ended_s)
        seconds = call.laps.seconds()
        self._metrics.observe_stages(method.path, seconds)
        write, stages = self._log.info, {}
        if 0 < self._slow_s <= duration_s:
            self._metrics.slow.labels(method.path).inc()
            write = self._log.warning
            stages_ms = {stage: round(1000 * each_s, 3) for stage, each_s in seconds.items()}
            stages = {"slow": True, "waited_ms": round(1000 * call.waited_s, 3), "stages_ms": stages_ms}
        write(
            "request",
            method=method.path,
            code=code.name,
            caller=call.caller,
            request_id=call.request_id[:256],
            duration_ms=round(1000 * duration_s, 3),
            **({"experiment": call.experiment} if call.experiment else {}),
            **({"trace_id": trace.trace_id} if trace.trace_id else {}),
            **stages,
        )


def _trailing_metadata(error: Exception) -> tuple[tuple[str, str | bytes], ...]:
    match error:
        case OverloadedError() | CallerLimitError():
            return (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)
        case FieldError():
            return refusal_to_metadata(error)
        case RelayedError():
            return error.metadata
        case _:
            return ()


def _checked_id(message: object, context: grpc.ServicerContext, *, from_worker: bool) -> str:
    """Gives the id that a request came with, or a new one."""
    request_id = request_id_of(message)
    if from_worker:
        request_id = str(dict(context.invocation_metadata()).get(REQUEST_ID, request_id))
    check_request_id(request_id)
    return request_id
