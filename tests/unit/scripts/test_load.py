"""The load tool: times that no answer moves, the drawn visits and messages, and what a run is said to have shown."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest

from model_stage.serving import convert
from model_stage.serving.server import ranking_server
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from scripts.load import __main__ as command
from scripts.load.arrivals import Stage, parse_stage, send_times
from scripts.load.measures import by_second, kind_rows, latencies, result_rows, stage_rows
from scripts.load.memory import MemoryLog
from scripts.load.plan import METHODS, Mix, draw_plan
from scripts.load.sending import OUTCOMES, Outcome, Target, send
from scripts.load.show import draw, late_warning
from scripts.load.visitors import Population, _evenly, parse_weights, read_population, visits, zipf
from search_stage import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions
from store import BehaviorStore
from store.errors import InputError
from tests.worlds.services import make_world

PEOPLE = Population(
    users=np.arange(100, 150, dtype=np.uint64),
    lengths=np.array([0, 5, 500, 5_000, 2_000_000] * 10),
    ads=np.arange(900, 930, dtype=np.uint64),
    as_of_ms=1_700_000_000_000,
)
MIX = Mix(methods={"rank": 1}, candidates={3: 1}, user_exponent=1.0, ad_exponent=1.0, repeat=0.0, seed=0)


def generator(seed=0):
    return np.random.default_rng(seed)


def stages(*texts):
    return [parse_stage(text) for text in texts]


def test_even_gaps_are_even_and_a_ramp_grows_evenly():
    times, stage = send_times(stages("10:2", "10-30:2"), "constant", generator())
    assert len(times) == 20 + 40
    np.testing.assert_allclose(np.diff(times[stage == 0]), 0.1)
    ramp = times[stage == 1] - 2
    assert np.all((ramp > 0) & (ramp < 2))
    # Of 10 t + 5 t^2 requests the half is through when t = sqrt(5) - 1.
    assert np.count_nonzero(ramp < np.sqrt(5) - 1) == 20


def test_poisson_arrivals_have_the_rate_and_the_gaps_of_independent_users():
    times, stage = send_times(stages("200:100", "400-0:50"), "poisson", generator())
    assert np.all(np.diff(times) >= 0)
    assert times[-1] <= 150
    steady, falling = times[stage == 0], times[stage == 1]
    assert abs(len(steady) - 20_000) < 4 * np.sqrt(20_000)
    assert abs(len(falling) - 10_000) < 4 * np.sqrt(10_000)
    gaps = np.diff(steady)
    assert abs(gaps.std() / gaps.mean() - 1) < 0.03  # an exponential's is one, that of even gaps none
    assert np.count_nonzero(falling < 125) / len(falling) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("text", ["", "5", "5:", "x:3", "5:0", "5-:3", "-5:3", "1e9:1", "2000000:1"])
def test_a_stage_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="--stage"):
        parse_stage(text)


def test_a_stage_without_requests_or_with_too_many_is_refused():
    with pytest.raises(InputError, match="no request"):
        send_times(stages("0:5"), "poisson", generator())
    with pytest.raises(InputError, match="more than"):
        send_times([Stage(first_per_s=1e6, last_per_s=1e6, seconds=1e4)], "constant", generator())


def test_popularity_follows_zipf_and_some_come_back_at_once():
    ranks = zipf(1_000, 1.0)(200_000, generator())
    counts = np.bincount(ranks, minlength=1_000)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.2)
    assert np.bincount(zipf(10, 0.0)(100_000, generator()), minlength=10).std() < 300

    def soon_again(repeat):
        users = visits(5_000, 1_000_000, 0.0, repeat, generator())
        return np.mean([user in users[max(0, at - 200) : at] for at, user in enumerate(users.tolist())])

    assert soon_again(0.0) < 0.01
    assert soon_again(0.4) == pytest.approx(0.4, abs=0.03)


def test_a_message_of_two_parts_is_the_message():
    mix = replace(MIX, methods=dict.fromkeys(METHODS, 1), candidates={3: 1, 7: 1, 100: 1})
    plan = draw_plan(PEOPLE, stages("100:2"), mix)
    kinds = (
        ranking_pb2.RankRequest,
        ranking_pb2.ExplainRequest,
        search_pb2.SearchRequest,
        search_pb2.GetHistoryRequest,
    )
    seen = set()
    for row in range(len(plan)):
        message = kinds[plan.method[row]].FromString(plan.message(row))
        asked = message.request if isinstance(message, ranking_pb2.ExplainRequest) else message
        assert asked.user == plan.user[row]
        assert asked.as_of_ms == PEOPLE.as_of_ms
        if isinstance(asked, ranking_pb2.RankRequest):
            items = convert.request_from_proto(asked).candidates.item
            assert len(items) == plan.size[row]
            assert set(items.tolist()) <= set(PEOPLE.ads.tolist())
            assert len(set(items.tolist())) == min(len(items), len(PEOPLE.ads))
        seen.add((int(plan.method[row]), int(plan.size[row])))
    assert len(seen) == len(METHODS) * 3


def test_the_same_seed_draws_the_same_run_and_shares_are_the_whole():
    one, two = (draw_plan(PEOPLE, stages("50:4"), replace(MIX, seed=seed)) for seed in (3, 4))
    again = draw_plan(PEOPLE, stages("50:4"), replace(MIX, seed=3))
    assert [one.message(row) for row in range(len(one))] == [again.message(row) for row in range(len(again))]
    assert one.due_s.tolist() != two.due_s.tolist()
    parts = [one.share(number, 3) for number in range(3)]
    assert sorted(np.concatenate([part.due_s for part in parts])) == one.due_s.tolist()


@contextmanager
def ranking_service(answer):
    """A service that answers Rank with what a function gives; yields its address."""
    handler = grpc.unary_unary_rpc_method_handler(lambda data, context: answer(context))
    server = grpc.server(futures.ThreadPoolExecutor(64))
    server.add_registered_method_handlers("lookback.ranking.v1.RankingService", {"Rank": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def sent(answer, *texts, deadline_s=2.0, processes=1):
    plan = draw_plan(PEOPLE, stages(*texts), replace(MIX, process="constant"))
    with ranking_service(answer) as address:
        target = Target(addresses={"rank": address}, deadline_s=deadline_s, connections=2)
        return plan, send(plan, target, processes, lambda second: None)


def test_requests_due_while_the_server_stalls_are_charged_for_it():
    """The mistake that this tool must not make: to ask less while answers are slow, and call it fast."""
    door, first_s = threading.Event(), []

    def stalls_once(context):
        if not first_s:
            first_s.append(time.monotonic())
            threading.Timer(0.5, door.set).start()
        door.wait(5)
        return b""

    plan, outcome = sent(stalls_once, "100:1", processes=2)
    assert set(outcome.result.tolist()) == {OUTCOMES.index("OK")}
    # All of the first half second wait for its end, each since its own time.
    expected_s = np.maximum(0.5 - (plan.due_s - plan.due_s[0]), 0)
    assert np.median(np.abs(outcome.latency_s - expected_s)) < 0.1
    assert latencies(outcome.latency_s)["p50_ms"] < 100 < latencies(outcome.latency_s)["p90_ms"]


def test_every_end_of_a_request_has_its_class():
    turn = iter(range(10**6))
    lock = threading.Lock()

    def by_turns(context):
        with lock:
            kind = next(turn) % 4
        if kind == 0:
            return b""
        if kind == 1:
            return ranking_pb2.RankResponse(degraded=True, degraded_reason="no history").SerializeToString()
        if kind == 2:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "100"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        time.sleep(1.0)
        return b""

    plan, outcome = sent(by_turns, "40:1", deadline_s=0.3)
    rows = {row["result"]: row for row in result_rows(outcome)}
    assert {name: row["requests"] for name, row in rows.items()} == {
        "OK": 10,
        "DEGRADED": 10,
        "RESOURCE_EXHAUSTED": 10,
        "DEADLINE_EXCEEDED": 10,
    }
    assert rows["RESOURCE_EXHAUSTED"]["with_retry_hint"] == 10
    assert rows["DEADLINE_EXCEEDED"]["p50_ms"] >= 300
    assert outcome.reasons["DEGRADED: no history"] == 10
    (stage,) = stage_rows(plan, outcome, stages("40:1"))
    assert [stage[name] for name in ("good_per_s", "degraded_per_s", "refused_per_s", "failed_per_s")] == [10] * 4


def test_nobody_there_is_said_with_the_address():
    plan = draw_plan(PEOPLE, stages("10:1"), MIX)
    target = Target(addresses={"rank": "127.0.0.1:1"}, deadline_s=1.0, connections=1, patience_s=0.5)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1 does not answer"):
        send(plan, target, 2, lambda second: None)


def by_hand():
    """Ten requests a second for four seconds: one in four degraded, the rest 10 ms times the second."""
    plan = draw_plan(PEOPLE, stages("10:2", "10:2"), replace(MIX, process="constant"))
    result = np.where(np.arange(40) % 4 == 3, OUTCOMES.index("DEGRADED"), 0).astype(np.uint8)
    latency_s = 0.01 * (1 + np.arange(40) // 10)
    nothing = np.zeros(40)
    return plan, Outcome(result=result, latency_s=latency_s, lag_s=nothing, hinted=nothing.astype(np.uint8), reasons={})


def test_rows_are_those_counted_by_hand():
    plan, outcome = by_hand()
    first, second = stage_rows(plan, outcome, stages("10:2", "10:2"))
    assert (first["offered_per_s"], first["good_per_s"], first["degraded_per_s"]) == (10, 7.5, 2.5)
    assert (first["p50_ms"], first["max_ms"]) == pytest.approx((10, 20))
    assert (second["p50_ms"], second["p999_ms"]) == pytest.approx((30, 40))
    seconds = by_second(plan, outcome, stages("10:2", "10:2"))
    assert seconds["offered"] == [10] * 4
    assert [good + degraded for good, degraded in zip(seconds["good"], seconds["degraded"], strict=True)] == [10] * 4
    assert seconds["p99_ms"] == pytest.approx([10, 20, 30, 40])
    kinds = {row["kind"]: row["requests"] for row in kind_rows(plan, outcome)}
    assert kinds["method rank"] == kinds["3 candidates"] == 40
    classes = {name: count for name, count in kinds.items() if name.endswith("behaviors")}
    assert sum(classes.values()) == 40
    assert set(classes) <= {
        "0 to 0 behaviors",
        "1 to 99 behaviors",
        "100 to 999 behaviors",
        "1,000 to 9,999 behaviors",
        "100,000 to up behaviors",
    }


def test_late_senders_are_named():
    plan, outcome = by_hand()
    facts = {"stages": stage_rows(plan, outcome, stages("10:2", "10:2"))}
    assert late_warning(facts) == ""
    late = replace(outcome, lag_s=np.full(40, 0.03))
    assert "10:2" in late_warning({"stages": stage_rows(plan, late, stages("10:2", "10:2"))})


@pytest.mark.parametrize("text", ["", "rank=", "rank=0", "rank=-1", "=3", "rank=x", "rank=inf"])
def test_weights_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="--methods"):
        parse_weights("--methods", text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give --work, or --store"),
        ({"work": "w", "ranking": "x:1"}, "--work starts services"),
        ({"work": "nowhere"}, "--config"),
        ({"store": "s", "search": "x:1", "candidates": "0"}, "--candidates"),
        ({"store": "s", "search": "x:1", "candidates": "1001"}, "--candidates"),
        ({"store": "s", "search": "x:1", "methods": "sing"}, "--methods"),
        ({"store": "s", "search": "x:1", "arrivals": "often"}, "--arrivals"),
        ({"store": "s", "search": "x:1", "lengths": "long"}, "--lengths"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(options, words, tmp_path):
    paths = {name: tmp_path / options[name] for name in ("work", "store") if name in options}
    with pytest.raises(InputError, match=words):
        command.main(stage=["1:1"], **{**options, **paths})


def test_it_measures_running_services(tmp_path):
    world = make_world(tmp_path)
    files = {name: tmp_path / f"load.{name}" for name in ("json", "md", "png")}
    with (
        search_server(world.store, world.index, SearchConfig(), ServeOptions()) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions()) as ranking,
    ):
        command.main(
            stage=["20:1", "20-40:1"],
            ranking=f"127.0.0.1:{ranking.port}",
            search=f"127.0.0.1:{search.port}",
            store=world.store,
            methods="rank=4,explain=1,search=2,history=1",
            candidates="2=1,3=1",
            deadline_s=5.0,
            json_file=files["json"],
            report=files["md"],
            plot=files["png"],
        )
    facts = json.loads(files["json"].read_text())
    assert {row["result"] for row in facts["results"]} == {"OK"}
    assert {f"method {name}" for name in METHODS} <= {row["kind"] for row in facts["kinds"]}
    assert facts["results"][0]["requests"] == sum(row["requests"] for row in facts["stages"]) > 20
    assert "| 20-40:1 |" in files["md"].read_text()
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_a_population_is_what_the_store_has(tmp_path):
    world = make_world(tmp_path)
    with BehaviorStore.open(world.store) as store:
        people = read_population(store, "natural", generator())
    assert len(people.users) == 10
    assert set(people.lengths.tolist()) == {40}
    assert len(people.ads) == 2  # a1 and a2 cover products


def test_even_lengths_bring_long_histories_as_often_as_short_ones():
    classes = np.array([1] * 90 + [2] * 9 + [3])
    drawn = classes[_evenly(classes, 99, generator())]
    assert np.bincount(drawn)[1:].tolist() == [33, 33, 33]


def test_memory_of_a_process_and_of_one_that_is_gone():
    log = MemoryLog([os.getpid(), 2**22 + 1])
    log(1.0)
    assert log.second == [1.0]
    assert log.rss_mib[0] > 10


def test_a_plot_has_a_panel_of_memory_where_it_was_noted(tmp_path):
    plan, outcome = by_hand()
    facts = {"what": "x", "seconds": by_second(plan, outcome, stages("10:2", "10:2"))}
    facts["seconds"]["p50_ms"][1] = None
    for name, memory in (("a", {"second": [], "rss_mib": []}), ("b", {"second": [0, 1], "rss_mib": [5, 6]})):
        draw({**facts, "memory": memory}, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a").stat().st_size < (tmp_path / "b").stat().st_size
