"""Several worker processes behind one port: they are one server to whoever asks, and to whoever operates it."""

from __future__ import annotations

import shutil
import sys

import grpc
import pytest

import serving.workers.spec
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from search_stage.serving.workers import SearchWorker
from serving import ServeOptions, WorkerSlot, make_logger, run_worker
from serving.wire.search import request_to_proto
from store.building.ingest import ingest
from store.errors import GenerationError
from store.publishing.generation import current_name, swap_current
from store.retrieval import SearchRequest
from store.types import parse_id
from tests.worlds.calls import events, history_of, results
from tests.worlds.load import Load, assert_drains_without_loss
from tests.worlds.services import AS_OF_MS, candidates, make_world, publish_index, write_dataset
from tests.worlds.workers import by_worker, connections, events_of, runs, wait_until, worker_pids, workers_process

USER = parse_id("u3")
ADS = candidates(*["a1", "a2", "c1"] * 20)


def test_workers_are_one_server(tmp_path):
    """Reload, versions, appends, metrics and the end are those of all, whichever worker a connection leads to."""
    world = make_world(tmp_path)
    arguments = ("--append", "--metrics-port", "0", "--watch-seconds", "0.2")
    with workers_process(world, tmp_path, *arguments) as process, connections(process) as channels:
        check_appends(process, channels)
        check_reload(world, process, channels)
        check_a_bad_generation(world, process)
        assert_drains_without_loss(process, Load(process.address, searching))


def test_workers_drain_and_end_when_their_supervisor_is_killed(world, tmp_path):
    with workers_process(world, tmp_path) as process:
        workers = [*worker_pids(process).values()]
        process.popen.kill()
        wait_until(lambda: not any(map(runs, workers)), process)
        ends = [event for event in events_of(process) if event["event"] == "ended"]
        assert [event["finished"] for event in ends] == [True] * len(workers)
    with connections(process, 1) as (channel,), pytest.raises(grpc.RpcError) as caught:
        searching(channel)()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def check_appends(process, channels):
    stubs = [search_pb2_grpc.SearchServiceStub(channel) for channel in channels]
    for number, stub in enumerate(stubs):
        assert results(stub.Append(events([USER], [7], [AS_OF_MS + number]), timeout=60)) == [1]
        assert {history_of(each, USER, page_size=1)[0][0] for each in stubs} == {AS_OF_MS + number}
        with pytest.raises(grpc.RpcError) as caught:
            stub.Append(events([USER], [7], [1, 2]), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("timestamp_ms: ")
    # Every request is counted once, where it came in.
    counts = by_worker(process, "lookback_requests_total", method="/lookback.search.v1.SearchService/Append")
    assert sum(counts.values()) == 2 * len(stubs)
    assert by_worker(process, "lookback_appended_events_total", result="accepted") == {"1": len(stubs)}


def check_reload(world, process, channels):
    admins = [admin_pb2_grpc.AdminServiceStub(channel) for channel in channels]
    write_dataset(world.folder / "data", behaviors_per_user=45)
    ingest(world.folder / "data", world.store)
    publish_index(world)
    served = {"store": current_name(world.store, "store"), "index": current_name(world.index, "index")}
    answer = admins[0].Reload(admin_pb2.ReloadRequest(), timeout=60)
    assert [worker.number for worker in answer.workers] == [1, 2]
    for admin in admins:
        answer = admin.GetVersions(admin_pb2.GetVersionsRequest(), timeout=10)
        for each in (answer.versions, *(worker.versions for worker in answer.workers)):
            assert (each.store_generation, each.index_generation) == (served["store"], served["index"])
    assert by_worker(process, "lookback_serving_info", **served) == {"1": 1, "2": 1}


def check_a_bad_generation(world, process):
    """A bad one is refused by all, whether they find it or are told of it."""
    good = current_name(world.store, "store")
    bad = publish_bad(world)
    wait_until(lambda: by_worker(process, "lookback_behind") == {"1": 1, "2": 1}, process)
    assert by_worker(process, "lookback_serving_info", store=good) == {"1": 1, "2": 1}
    with connections(process) as channels:
        assert {searching(channel)().store_generation for channel in channels} == {good}
        with pytest.raises(grpc.RpcError) as caught:
            admin_pb2_grpc.AdminServiceStub(channels[0]).Reload(admin_pb2.ReloadRequest(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert str(bad) in caught.value.details()


def publish_bad(world):
    """Publishes a generation whose manifest does not match its name; gives its folder."""
    bad = world.store / "generations" / "20260101-000000-00000000"
    shutil.copytree(bad.with_name(current_name(world.store, "store")), bad)
    swap_current(world.store, bad.name)
    return bad


def searching(channel):
    stub = search_pb2_grpc.SearchServiceStub(channel)
    message = request_to_proto(SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS))
    return lambda: stub.Search(message, timeout=30)


def test_a_worker_that_comes_back_while_what_is_published_is_bad_serves_what_the_others_do(own_world, tmp_path):
    world, slots = own_world, [WorkerSlot(number=number, count=2, folder=tmp_path) for number in (1, 2)]
    good = current_name(world.store, "store")

    def worker(slot):
        return search_server(world.store, world.index, SearchConfig.load(), ServeOptions(worker=slot))

    with worker(slots[0]):
        pass
    bad = publish_bad(world)
    with worker(slots[1]) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        versions = admin.GetVersions(admin_pb2.GetVersionsRequest(), timeout=10)
        assert versions.versions.store_generation == good
        first, second = versions.workers
        assert (first.number, first.HasField("versions")) == (1, False)
        assert "does not answer" in first.problem
        assert (second.number, second.versions) == (2, versions.versions)
        with pytest.raises(grpc.RpcError, match="0000000"):
            admin.Reload(admin_pb2.ReloadRequest(), timeout=30)
    slots[0].served.unlink()
    with pytest.raises(GenerationError, match=bad.name), worker(slots[0]):
        pass


def test_a_worker_that_cannot_serve_says_why_in_one_line(world, tmp_path, monkeypatch, capsys):
    slot = WorkerSlot(number=1, count=2, folder=tmp_path)
    spec = SearchWorker(
        store_root=world.store,
        index_root=tmp_path / "nothing",
        config=SearchConfig.load(),
        options=ServeOptions(worker=slot),
        append=False,
    )
    *_, module, file = spec.command(spec.options)
    assert (module, SearchWorker.read(file)) == ("search_stage.serving.workers", spec)
    monkeypatch.setattr(sys, "argv", [module, file])
    monkeypatch.setattr(serving.workers.spec, "end_with_supervisor", lambda: None)
    with pytest.raises(SystemExit) as caught:
        run_worker(SearchWorker, make_logger("search"))
    assert caught.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "lookback-search build-index" in said[0]
