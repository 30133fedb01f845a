"""One trace from the caller over ranking and search to the store, as a collector of OpenTelemetry gets it."""

from __future__ import annotations

import gzip
import io
import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest

from model_stage.serving import convert
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from search_stage import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions
from store.errors import InputError
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, candidates, make_world

received = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs the extra `trace`"
)
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RANK, SEARCH = "lookback.ranking.v1.RankingService/Rank", "lookback.search.v1.SearchService/Search"


@contextmanager
def collector():
    """Takes spans by OTLP over HTTP; yields its address and the list that they get into, with their service's name."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in received.ExportTraceServiceRequest.FromString(body).resource_spans:
                (service,) = (
                    each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                )
                spans.extend((service, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rank(port, traced=True):
    request = RankRequest(user=parse_id("u1"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2"))
    metadata = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),) if traced else ()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ranking_pb2_grpc.RankingServiceStub(channel)
        return stub.Rank(convert.request_to_proto(request, "given"), timeout=30, metadata=metadata)


@contextmanager
def services(world, **options):
    with (
        search_server(world.store, world.index, SearchConfig(), ServeOptions(**options)) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions(**options)) as ranking,
    ):
        yield ranking.port


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("traced"))


def test_a_request_is_one_trace_from_its_caller_to_the_store(world, monkeypatch):
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        with services(world, trace=True) as port:
            assert not rank(port).degraded
    # What the ranking server asks when it starts is a trace of its own.
    by_name = {(service, span.name): span for service, span in spans if span.trace_id.hex() == TRACE_ID}
    ranking, search = by_name["lookback-ranking", RANK], by_name["lookback-search", SEARCH]
    call = by_name["lookback-ranking", "Search"]
    read = by_name["lookback-search", "read"]
    assert ranking.parent_span_id.hex() == PARENT_ID
    assert call.parent_span_id == ranking.span_id
    assert search.parent_span_id == call.span_id
    assert read.parent_span_id == search.span_id
    stages = {name for service, name in by_name if service == "lookback-ranking"}
    assert {"decode", "search", "encode", "score", "respond"} <= stages
    for inner, outer in ((read, search), (search, call), (call, ranking)):
        # Of two clocks, which are read one after the other.
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano + 20_000_000
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano + 20_000_000
    attributes = {each.key: each.value.string_value for each in ranking.attributes}
    assert (attributes["rpc.method"], attributes["lookback.request_id"]) == ("Rank", "given")
    assert attributes["rpc.response.status_code"] == "OK"


def test_without_the_option_the_callers_context_is_passed_on_and_logged(world, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with services(world) as port:
        rank(port)
        rank(port, traced=False)
    lines = [json.loads(line) for line in log.getvalue().splitlines() if '"event": "request"' in line]
    seen = {(line["component"], line.get("trace_id")) for line in lines}
    assert seen == {("ranking", TRACE_ID), ("search", TRACE_ID), ("ranking", None), ("search", None)}


def test_a_collector_that_is_away_delays_no_answer_and_no_end(world, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with services(world, trace=True) as port:
        assert not rank(port).degraded


def test_without_the_extra_it_says_what_to_install(world, monkeypatch):
    monkeypatch.delitem(sys.modules, "serving.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InputError, match=r"lookback\[trace\]"), services(world, trace=True):
        pass
