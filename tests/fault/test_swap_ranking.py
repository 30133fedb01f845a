"""Models and indexes change under load while a shadow scores and a log is kept; then the log's disk runs full."""

from __future__ import annotations

import time
import urllib.request
from dataclasses import replace

import grpc
import pyarrow.parquet as pq

from model_stage.bundle import Provenance
from model_stage.cli.replay import replay_log
from model_stage.serving import convert
from model_stage.serving.options import RankingOptions
from model_stage.serving.rank_client import RankClient
from model_stage.serving.served_log import log as served_log
from model_stage.serving.served_log.warm_requests import write_warm_requests
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions
from store.publishing.generation import current_name, swap_current
from store.types import parse_id
from tests.fault.mounts import free_all, leave_free, small_disk
from tests.worlds.load import Load, assert_drains_without_loss
from tests.worlds.services import AS_OF_MS, candidates, make_world, publish_bundle, publish_index, server_process
from tests.worlds.workers import by_worker, ranking_workers_process, value_of, wait_until


def asked(number):
    return RankRequest(
        user=parse_id(f"u{number % 10}"), as_of_ms=AS_OF_MS - number % 7, candidates=candidates("a1", "a2", "c1", "s1")
    )


def record_warm_requests(world, file):
    """Serves some requests, keeps them, and makes a file of them."""
    log = world.folder / "recorded"
    with (
        search_server(world.store, world.index, SearchConfig.load(), ServeOptions()) as search,
        ranking_server(
            world.bundle,
            f"127.0.0.1:{search.port}",
            ServeOptions(),
            RankingOptions(served_log=log, served_share=1.0),
        ) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
    ):
        for number in range(10):
            client.rank(asked(number))
    assert write_warm_requests(log, file, 10) == 10


def test_models_and_indexes_swap_under_load_with_a_shadow(folder, scale, tally):
    """No error, no answer without history, no failure of the shadow; and what was logged is scored again to the bit."""
    world = make_world(folder)
    first = current_name(world.bundle, "model")
    indexes = [current_name(world.index, "index"), publish_index(world)]
    same_table = Provenance(attention_from=first)
    bundles = [first, publish_bundle(world, seed=1, provenance=same_table)]
    shadow, log, warm = folder / "shadow", folder / "log", folder / "warm.parquet"
    publish_bundle(replace(world, bundle=shadow), seed=2, provenance=same_table)
    swap_current(world.bundle, first)
    record_warm_requests(world, warm)
    degraded = []

    def ranking(channel):
        stub = ranking_pb2_grpc.RankingServiceStub(channel)
        numbers = iter(range(10**9))

        def call():
            answer = stub.Rank(convert.request_to_proto(asked(next(numbers))), timeout=30)
            degraded.extend([answer.degraded_reason] if answer.degraded else [])

        return call

    common = ("--metrics-port", "0", "--watch-seconds", "0.05", "--warm-requests", warm)
    beside = ("--served-log", log, "--served-share", "0.3", "--shadow-bundle", shadow, "--shadow-share", "0.3")
    searching = server_process(folder, "search_stage", "--store", world.store, "--index", world.index, *common)
    with (
        searching as search,
        ranking_workers_process(world, folder, search.address, *common, *beside) as process,
    ):
        load = Load(process.address, ranking)
        load.wait_for(50)
        for number in range(scale(4, 100)):
            name = (bundles, indexes)[number % 2][(number // 2 + 1) % 2]
            if number % 2 == 0:
                swap_current(world.bundle, name)
                wait_until(
                    lambda name=name: len(by_worker(process, "lookback_serving_info", bundle=name)) == 2, process
                )
            else:
                swap_current(world.index, name)
                wait_until(lambda name=name: value_of(search, "lookback_serving_info", index=name) == 1, search)
            load.wait_for(len(load.outcomes) + 20)
            tally.injected += 1
        scored = by_worker(process, "lookback_shadow_requests_total", result="scored")
        failed = by_worker(process, "lookback_shadow_requests_total", result="failed")
        dropped = by_worker(process, "lookback_served_log_rows_total", result="dropped")
        assert_drains_without_loss(process, load)
    tally.runs = len(load.outcomes)
    tally.lost = sum(1 for _, code in load.outcomes if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE))
    assert degraded == []
    assert sum(failed.values()) == sum(dropped.values()) == 0
    assert sum(scored.values()) > 0
    report = replay_log(log, world.bundle, world.store, world.index)
    assert (report.differences, sum(report.unreachable.values())) == ([], 0)
    assert report.num_same > 0.15 * len(load.outcomes)
    tally.corrupt = len(report.differences)
    tally.note = f"{report.num_same} answers scored again"
    tally.check()


def test_a_full_disk_of_the_served_log_stops_no_answer(folder, scale, tally, monkeypatch, capfd):
    """What it drops is counted and said; when there is room again, it goes on."""
    monkeypatch.setattr(served_log, "RETRY_S", 0.2)
    monkeypatch.setattr(served_log, "GROUP_S", 0.0)
    world = make_world(folder)

    def rows(result):
        with urllib.request.urlopen(f"http://127.0.0.1:{ranking.metrics_port}/metrics", timeout=10) as page:
            (line,) = [
                line for line in page.read().decode().splitlines() if f'_rows_total{{result="{result}"}}' in line
            ]
        return float(line.split()[1])

    def ask_until(what):
        give_up_s = time.monotonic() + 60
        while not what():
            assert not client.rank(asked(tally.runs)).degraded
            tally.runs += 1
            assert time.monotonic() < give_up_s

    with small_disk(folder / "disk", 4 << 20) as disk:
        log = disk / "log"
        options = RankingOptions(served_log=log, served_share=1.0)
        with (
            search_server(world.store, world.index, SearchConfig.load(), ServeOptions()) as search,
            ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions(metrics_port=0), options) as ranking,
            RankClient(f"127.0.0.1:{ranking.port}") as client,
        ):
            for _ in range(scale(1, 10)):
                leave_free(disk, 8 << 10)
                before = rows("dropped")
                ask_until(lambda before=before: rows("dropped") > before)
                tally.injected += 1
                free_all(disk)
                ask_until(lambda: any(part.stat().st_size > 1000 for part in log.glob(".requests-*.part")))
        assert rows_of(log) > 0
    assert "No space left" in capfd.readouterr().err
    tally.check()


def rows_of(log):
    return sum(pq.read_metadata(file).num_rows for file in log.glob("impressions-*.parquet"))
