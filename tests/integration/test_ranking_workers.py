"""Several ranking workers behind one port: they are one server to whoever asks, and to whoever operates it."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import grpc
import numpy as np
import pytest

import serving.workers.spec
from model_stage.ranking.ranker import Ranker
from model_stage.serving import convert
from model_stage.serving.server import ranking_server, warm_up_process
from model_stage.serving.workers import RankingWorker
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions, WorkerSlot, make_logger, run_worker
from store import BehaviorStore
from store.errors import GenerationError
from store.publishing.generation import current_name, swap_current
from store.types import parse_id
from tests.worlds.load import Load, assert_drains_without_loss
from tests.worlds.services import AS_OF_MS, candidates, publish_bundle, publish_index
from tests.worlds.workers import by_worker, connections, events_of, ranking_workers_process, wait_until, worker_pids

REQUEST = RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2", "c1"))
NOBODY = "127.0.0.1:1"
"""Where no search stage answers: rankings are degraded, which is enough to see which worker serves what."""


def ranking(channel):
    stub = ranking_pb2_grpc.RankingServiceStub(channel)
    message = convert.request_to_proto(REQUEST)
    return lambda: convert.result_from_proto(stub.Rank(message, timeout=30))


def test_ranking_workers_are_one_server(own_world, tmp_path):
    """Answers, reload, versions, metrics, replacement and the end are those of all, whichever worker one reaches."""
    world, arguments = own_world, ("--metrics-port", "0", "--watch-seconds", "0.2")
    with (
        search_server(world.store, world.index, SearchConfig.load(), ServeOptions()) as search,
        ranking_workers_process(world, tmp_path, f"127.0.0.1:{search.port}", *arguments) as process,
        connections(process) as channels,
    ):
        check_answers(world, process, channels)
        check_reload(world, process, channels)
        check_a_bad_bundle(world, process)
        check_a_killed_worker_is_forked_again(process)
        assert_drains_without_loss(process, Load(process.address, ranking))


def check_answers(world, process, channels):
    with BehaviorStore.open(world.store) as store:
        alone = Ranker.load(world.bundle, Searcher(store, IndexGeneration.open(world.index))).rank(REQUEST)
    for channel in channels:
        served = ranking(channel)()
        np.testing.assert_allclose(served.probability, alone.probability, atol=1e-6, rtol=0)  # I7
        assert served.versions == alone.versions
    counts = by_worker(process, "lookback_requests_total", method="/lookback.ranking.v1.RankingService/Rank")
    assert sum(counts.values()) == len(channels)
    assert set(counts) <= {"1", "2"}


def check_reload(world, process, channels):
    admins = [admin_pb2_grpc.AdminServiceStub(channel) for channel in channels]
    name = publish_bundle(world, seed=5)
    publish_index(world)
    answer = admins[0].Reload(admin_pb2.ReloadRequest(), timeout=60)
    assert [worker.number for worker in answer.workers] == [1, 2]
    for admin in admins:
        answer = admin.GetVersions(admin_pb2.GetVersionsRequest(), timeout=10)
        assert {each.bundle for each in (answer.versions, *(worker.versions for worker in answer.workers))} == {name}
    assert {ranking(channel)().versions.bundle for channel in channels} == {name}
    assert by_worker(process, "lookback_serving_info", bundle=name) == {"1": 1, "2": 1}


def check_a_bad_bundle(world, process):
    """A bad one is refused by all, whether they find it or are told of it."""
    good = current_name(world.bundle, "model")
    bad = publish_bad(world)
    wait_until(lambda: by_worker(process, "lookback_behind") == {"1": 1, "2": 1}, process)
    with connections(process) as channels:
        assert {ranking(channel)().versions.bundle for channel in channels} == {good}
        with pytest.raises(grpc.RpcError) as caught:
            admin_pb2_grpc.AdminServiceStub(channels[0]).Reload(admin_pb2.ReloadRequest(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert str(bad) in caught.value.details()
    swap_current(world.bundle, good)
    wait_until(lambda: by_worker(process, "lookback_behind") == {"1": 0, "2": 0}, process)


def check_a_killed_worker_is_forked_again(process):
    wait_until(lambda: any(event["event"] == "standing by" for event in events_of(process)), process)
    before = worker_pids(process)
    os.kill(before[2], signal.SIGKILL)
    wait_until(lambda: by_worker(process, "lookback_worker_restarts_total") == {"1": 0, "2": 1}, process)
    wait_until(lambda: by_worker(process, "lookback_worker_up") == {"1": 1, "2": 1}, process)
    assert worker_pids(process)[1] == before[1]
    with connections(process) as channels:
        assert len({ranking(channel)().versions.bundle for channel in channels}) == 1


def publish_bad(world):
    """Publishes a bundle whose manifest does not match its name; gives its folder."""
    bad = world.bundle / "generations" / "20260101-000000-00000000"
    shutil.copytree(bad.with_name(current_name(world.bundle, "model")), bad)
    swap_current(world.bundle, bad.name)
    return bad


def test_a_worker_that_comes_back_while_the_bundle_is_bad_serves_what_the_others_do(own_world, tmp_path):
    world, slots = own_world, [WorkerSlot(number=number, count=2, folder=tmp_path) for number in (1, 2)]
    good = current_name(world.bundle, "model")

    def worker(slot):
        return ranking_server(world.bundle, NOBODY, ServeOptions(worker=slot))

    with worker(slots[0]):
        pass
    bad = publish_bad(world)
    with worker(slots[1]) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert ranking(channel)().versions.bundle == good
    slots[0].served.unlink()
    with pytest.raises(GenerationError, match=bad.name), worker(slots[0]):
        pass


def test_a_ranking_worker_that_cannot_serve_says_why_in_one_line(tmp_path, monkeypatch, capsys):
    slot = WorkerSlot(number=1, count=2, folder=tmp_path)
    spec = RankingWorker(bundle_root=tmp_path / "nothing", search_address=NOBODY, options=ServeOptions(worker=slot))
    *_, module, file = spec.command(spec.options)
    assert (module, RankingWorker.read(file)) == ("model_stage.serving.workers", spec)
    monkeypatch.setattr(sys, "argv", [module, file])
    monkeypatch.setattr(serving.workers.spec, "end_with_supervisor", lambda: None)
    with pytest.raises(SystemExit) as caught:
        run_worker(RankingWorker, make_logger("ranking"))
    assert caught.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "lookback-model train" in said[0]


def test_a_process_that_is_to_be_forked_has_one_thread(own_world):
    """Scoring leaves no thread behind, else no worker could be forked from the process that has scored."""
    before = len(os.listdir("/proc/self/task"))
    warm_up_process(own_world.bundle)
    assert len(os.listdir("/proc/self/task")) == before
