"""Options of the channels of every client: one set, so that no client lacks what another has learned."""

from __future__ import annotations

from serving.options import stays_here

CONNECTIONS = 8
"""A connection stays with one of the workers behind the address: some are needed to reach them all."""
DEFAULT_DEADLINE_S = 10.0
"""For callers that set none, as an offline job."""
LARGEST_ANSWER_BYTES = 64 * 2**20
"""1,000 candidates with 2,000 behaviors each fit."""
KEEPALIVE_S = 10.0
"""A connection that is silent for so long is asked whether it lives; servers allow twice as many:
see `serving.server.server`."""
KEEPALIVE_TIMEOUT_S = 3.0

_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that was started again is found within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
    # What gRPC gives an attempt to connect: a server may need long for its first word. A call has its own deadline.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.enable_retries", 0),  # the callers of this package do that, within a budget
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share a connection, and its backoff
    ("grpc.keepalive_time_ms", int(1000 * KEEPALIVE_S)),
    ("grpc.keepalive_timeout_ms", int(1000 * KEEPALIVE_TIMEOUT_S)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def channel_options(address: str) -> tuple[tuple[str, int], ...]:
    """Gives the options of a channel to a host and port.

    A proxy that the environment names (`http_proxy`) is never asked for this machine; for another one it is, as gRPC
    does, unless `no_proxy` names it.
    """
    return (*_OPTIONS, ("grpc.enable_http_proxy", int(not stays_here(address))))
