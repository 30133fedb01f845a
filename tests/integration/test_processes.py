"""The servers as processes of their own: start, refusal to start, and SIGTERM under load."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from model_stage.serving import convert as ranking_convert
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.types import RankRequest
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from protos.lookback.search.v1 import search_pb2_grpc
from serving.deadline import Deadline
from serving.wire.search import request_to_proto
from store.retrieval import SearchRequest
from store.types import parse_id
from tests.worlds.load import Load, assert_drains_without_loss
from tests.worlds.services import AS_OF_MS, CHECKOUT, candidates, server_process

USER = parse_id("u3")
ADS = candidates(*["a1", "a2", "c1"] * 100)
"""Enough that a request takes some milliseconds, so that some are in flight at any time."""


def search_process(world, folder, *arguments):
    return server_process(folder, "search_stage", "--store", world.store, "--index", world.index, *arguments)


def ranking_process(world, folder, search_address, *arguments):
    return server_process(folder, "model_stage", "--bundle", world.bundle, "--search", search_address, *arguments)


def test_search_loses_no_request_on_sigterm(world, tmp_path):
    message = request_to_proto(SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS))

    def make_call(channel):
        stub = search_pb2_grpc.SearchServiceStub(channel)
        return lambda: stub.Search(message, timeout=30)

    with search_process(world, tmp_path) as process:
        assert_drains_without_loss(process, Load(process.address, make_call))


def test_ranking_loses_no_request_on_sigterm(world, tmp_path):
    message = ranking_convert.request_to_proto(RankRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS))
    degraded = []

    def make_call(channel):
        stub = ranking_pb2_grpc.RankingServiceStub(channel)
        return lambda: degraded.append(stub.Rank(message, timeout=30).degraded)

    with search_process(world, tmp_path) as search, ranking_process(world, tmp_path, search.address) as process:
        assert_drains_without_loss(process, Load(process.address, make_call))
        assert not any(degraded)
        assert search.terminate() == 0


def test_a_server_that_is_slow_to_take_a_connection_is_waited_for(world, tmp_path):
    with search_process(world, tmp_path) as process, RemoteRetriever(process.address) as client:
        process.popen.send_signal(signal.SIGSTOP)
        waking = threading.Timer(0.5, process.popen.send_signal, (signal.SIGCONT,))
        waking.start()
        result = client.search(SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS), Deadline.after(30))
        waking.join()
    assert len(result.candidate_category) == len(ADS)


def test_both_processes_show_health_and_their_services(world, tmp_path):
    with (
        search_process(world, tmp_path, "--reflection") as search,
        ranking_process(world, tmp_path, search.address, "--reflection") as ranking,
    ):
        for process, name in (
            (search, "lookback.search.v1.SearchService"),
            (ranking, "lookback.ranking.v1.RankingService"),
        ):
            with grpc.insecure_channel(process.address) as channel:
                assert name in ProtoReflectionDescriptorDatabase(channel).get_services()
                health = health_pb2_grpc.HealthStub(channel)
                answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


def refuse_to_start(package, *arguments):
    command = [sys.executable, "-m", package, "serve", "--port", "0", *map(str, arguments)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (1, 2), ended
    assert "Traceback" not in ended.stderr
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize("package", ["search_stage", "model_stage"])
def test_listening_beyond_this_machine_is_refused_until_it_is_spelled_out(world, package):
    arguments = {
        "search_stage": ("--store", world.store),
        "model_stage": ("--bundle", world.bundle, "--search", "127.0.0.1:1"),
    }[package]
    assert "--insecure" in refuse_to_start(package, *arguments, "--host", "0.0.0.0")


def test_a_missing_generation_is_named_with_what_to_run(tmp_path):
    said = refuse_to_start("search_stage", "--store", tmp_path / "nothing")
    assert str(tmp_path / "nothing") in said
    assert "lookback-store ingest" in said
    said = refuse_to_start("model_stage", "--bundle", tmp_path / "nothing", "--search", "127.0.0.1:1")
    assert str(tmp_path / "nothing") in said
    assert "lookback-model train" in said
