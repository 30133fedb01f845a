"""Trace context without OpenTelemetry: what a request came with goes on to whom it makes us ask, and nothing else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from serving.tracing import CURRENT_TRACE, Trace, Tracer, calling

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_passes_on_what_it_came_with():
    trace = Tracer().begin("/x/Y", (("traceparent", PARENT), ("tracestate", "vendor=1"), ("authorization", "secret")))
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    token = CURRENT_TRACE.set(trace)
    try:
        with calling("Search") as along:
            assert along == (("traceparent", PARENT), ("tracestate", "vendor=1"))
    finally:
        CURRENT_TRACE.reset(token)


@pytest.mark.parametrize(
    "parent", ["", "00-xyz", f"{PARENT}-more", PARENT.upper(), b"bytes", PARENT.replace("0af7", "0af"), f"{PARENT}\n"]
)
def test_what_is_no_context_goes_nowhere(parent):
    trace = Trace((("traceparent", parent), ("tracestate", "vendor=1")))
    assert trace.trace_id == ""
    with trace.calling("Search") as along:
        assert along == ()


@pytest.mark.parametrize("state", ["x" * 513, "line\nbreak", b"bytes"])
def test_an_odd_state_is_left_out(state):
    with Trace((("traceparent", PARENT), ("tracestate", state))).calling("Search") as along:
        assert along == (("traceparent", PARENT),)


def test_a_program_that_traces_itself_hands_its_own_context_on(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.propagate", raising=False)
    with calling("Rank") as along:
        assert along == ()
    own = SimpleNamespace(inject=lambda carrier: carrier.update(traceparent=PARENT))
    monkeypatch.setitem(sys.modules, "opentelemetry.propagate", own)
    with calling("Rank") as along:
        assert along == (("traceparent", PARENT),)
