"""Options of channels and servers: gRPC passes over one that it does not know, so that a wrong name does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from serving.calling.options import KEEPALIVE_S, channel_options
from serving.server.server import ALONE_OPTIONS, GRPC_OPTIONS, WORKER_OPTIONS

OPTIONS = (*GRPC_OPTIONS, *ALONE_OPTIONS, *WORKER_OPTIONS, *channel_options("127.0.0.1:1"))


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in OPTIONS}))
def test_grpc_knows_the_option(library, name):
    assert name.encode() + b"\0" in library


def test_servers_let_clients_ask_as_often_as_ours_do():
    """Else a silent connection ends after three of its questions, with `too_many_pings`."""
    options = dict(GRPC_OPTIONS)
    assert options["grpc.http2.min_ping_interval_without_data_ms"] < 1000 * KEEPALIVE_S
    assert options["grpc.keepalive_permit_without_calls"] == 1
