"""A gRPC server with health, optional reflection, metrics and a drain that loses nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.limits import LARGEST_MESSAGE_BYTES, LARGEST_METADATA_BYTES
from serving.security.door import open_door
from serving.server.admission import Admission
from serving.server.edge import Edge
from serving.server.memory import freeze_libraries, return_large_blocks
from serving.server.page import open_page
from serving.server.pool import Pool
from serving.server.valve import Valve
from serving.siblings import Siblings
from serving.slot import WorkerReport, write_whole
from serving.tracing import Tracer
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from structlog.typing import FilteringBoundLogger

    from serving.metrics import ServerMetrics
    from serving.options import ServeOptions
    from serving.server.method import Service
    from serving.server.status import StatusTable

SPARE_THREADS = 6
"""Beyond those that run and wait: for operators, health and reflection, and for whoever is refused in a burst."""

BURST = 100
"""Requests that may come at once beyond those that run and wait, where they do not come all the time."""

SETTLE_S = 0.2
"""Time in which a draining server still takes requests, those that were on their way when the drain began."""

LAME_DUCK_S = 0.2
"""Time after that in which it still says to callers that it is going away, before its port closes."""

GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    # By itself gRPC refuses what is between 8 and 16 KiB by chance, the more often the larger it is.
    ("grpc.max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", LARGEST_METADATA_BYTES),
    ("grpc.server_handshake_timeout_ms", 3000),  # slow-loris: half-open connections are reaped after 3 s (measured)
    (
        "grpc.max_connection_idle_ms",
        60000,
    ),  # silent ones after a minute; a client that asks just then must connect anew
    ("grpc.keepalive_time_ms", 30000),
    # A client may ask that often whether the connection lives, with or without calls; our own ask every ten seconds.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Of one connection, with those that were reset and are not yet dropped: gRPC itself refuses what is beyond it.
    ("grpc.max_concurrent_streams", 100),
    ("grpc.keepalive_timeout_ms", 10000),
)

ALONE_OPTIONS = (("grpc.so_reuseport", 0),)
"""A second server on the port is a mistake, not a partner."""

WORKER_OPTIONS = (
    ("grpc.so_reuseport", 1),
    # A connection stays with one worker. So that one that was started again gets its share, clients are asked to
    # connect anew now and then; what is in flight ends on the old connection.
    ("grpc.max_connection_age_ms", 60000),
    ("grpc.max_connection_age_grace_ms", 60000),
)


class Server:
    """Serves some servicers; a context manager that starts on entry and drains on exit.

    Raises:
        InputError: The port is taken, or a file of certificates or tokens cannot be used.
    """

    def __init__(
        self,
        services: Sequence[Service],
        options: ServeOptions,
        table: StatusTable,
        metrics: ServerMetrics,
        log: FilteringBoundLogger,
    ) -> None:
        slot = options.worker
        self._options = options
        self._log = log
        self._metrics = metrics
        self._names = [service.name for service in services]
        self.admission = Admission(options.max_running, options.max_waiting)
        places = options.max_running + options.max_waiting
        self._pool = Pool(places + SPARE_THREADS)
        valve = Valve(places, places + BURST)
        self.door = open_door(options, metrics.registry, log)
        self.siblings = None if slot is None else Siblings(slot)
        self._tracer = _tracer(self._names) if options.trace else Tracer()
        self._server = grpc.server(
            self._pool,
            interceptors=[
                Edge(
                    services,
                    table,
                    self.door.gate,
                    self.admission,
                    metrics,
                    log,
                    self.siblings,
                    slow_s=options.slow_ms / 1000,
                    tracer=self._tracer,
                    is_full=lambda: valve.turns_away(self._pool.busy, time.monotonic()),
                )
            ],
            options=(*GRPC_OPTIONS, *(ALONE_OPTIONS if slot is None else WORKER_OPTIONS)),
            maximum_concurrent_rpcs=places + BURST + SPARE_THREADS,
        )
        for service in services:
            service.add(self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.port = self._bind()
        self.metrics_port: int | None = None
        self._close_metrics: Callable[[], None] = lambda: None
        self._drained: bool | None = None

    def _bind(self) -> int:
        slot = self._options.worker
        if slot is not None:
            self._server.add_insecure_port(slot.socket(slot.number))
        address = self._options.address(self._options.port)
        try:
            if self.door.tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self.door.tls.credentials())
        except RuntimeError as exc:
            raise InputError(f"port: cannot listen on {address}; is it taken?") from exc

    def __enter__(self) -> Self:
        options = self._options
        if options.metrics_port is not None:
            # Of several workers each has a page of its own, which the supervisor reads: see `pages.py`.
            registry, door = self._metrics.registry, self.door
            if options.worker is None:
                page = open_page(options.host, options.metrics_port, registry, door.tls, door.gate)
            else:
                page = open_page("127.0.0.1", 0, registry)
            self.metrics_port, self._close_metrics = page
        self._server.start()
        for name in self._names:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        if options.worker is not None:
            report = WorkerReport(pid=os.getpid(), port=self.port, metrics_port=self.metrics_port)
            write_whole(options.worker.report, report.to_json())
        if options.port_file is not None:
            write_whole(options.port_file, f"{self.port}\n")
        self._log.info("serving", address=options.address(self.port), metrics_port=self.metrics_port)
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()

    def drain(self) -> bool:
        """Takes nothing new, finishes what is in flight and ends; False when the grace time was not enough for that.

        Health says NOT_SERVING first; what was on its way is still taken; then whoever asks hears UNAVAILABLE from the
        open port, which a client can retry elsewhere, and not a broken connection. Calling it again does nothing.
        """
        if self._drained is not None:
            return self._drained
        self._health.enter_graceful_shutdown()
        self._log.info("draining", in_flight=self.admission.inside)
        time.sleep(SETTLE_S)
        self.admission.close()
        finished = self.admission.wait_until_empty(self._options.grace_s)
        time.sleep(LAME_DUCK_S)
        self._server.stop(LAME_DUCK_S).wait()  # what is open still are streams of health and reflection
        self._pool.shutdown(wait=finished)
        self._close_metrics()
        if self.siblings is not None:
            self.siblings.close()
        self._tracer.close()
        if self._options.port_file is not None:
            self._options.port_file.unlink(missing_ok=True)
        self._log.info("ended", finished=finished)
        self._drained = finished
        return finished


def _tracer(names: Sequence[str]) -> Tracer:
    from serving.spans import SpanTracer  # OpenTelemetry is an extra

    return SpanTracer(f"lookback-{names[0].split('.')[1]}")


def run_until_terminated(make: Callable[[], AbstractContextManager[Server]]) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Call it from the main thread of a process of its own.

    Args:
        make: Opens what is to be served and the server over it; called after the signal handlers stand, so that an
            early SIGTERM ends the process in order too.
    """
    return_large_blocks()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    freeze_libraries()
    with make() as server:
        ended.wait()
        if not server.drain():
            sys.stderr.flush()
            os._exit(1)  # a request that outlives the grace time would hold the interpreter's exit as long as it likes
