"""The search stage is slow, silent, reset or stopped while ranking is asked: in time, flagged, and back by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_stage.errors import RankingUnavailableError
from model_stage.serving.rank_client import RankClient
from model_stage.types import RankRequest
from serving.calling.options import CONNECTIONS
from serving.deadline import Deadline
from store.errors import DeadlineExceededError
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, candidates, make_world, server_process
from tests.worlds.tcp_proxy import TcpProxy, Weather
from tests.worlds.workers import value_of

DEADLINE_S = 0.3
LATE_S = 0.02
CALLERS = 4
BACK_S = 5.0
REQUEST = RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2", "c1"))
KINDS = {"timeout", "unavailable", "circuit_open"}


class Callers:
    """Threads that rank without a pause, and note how long each call took and what came of it."""

    def __init__(self, address):
        self.outcomes = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(address,)) for _ in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _ask(self, address):
        with RankClient(address) as client:
            while not self._ended.is_set():
                started_s = time.monotonic()
                try:
                    result = client.rank(REQUEST, Deadline.after(DEADLINE_S))
                    outcome = result.degraded_kind or "whole"
                except DeadlineExceededError:
                    outcome = "late"
                except RankingUnavailableError as error:  # full: it could not have been in time
                    outcome = "late" if error.retry_after_ms is not None else str(error)
                self.outcomes.append((started_s, time.monotonic() - started_s, outcome))
                time.sleep(0.02)

    def wait_for(self, outcome, within_s):
        """Waits until a call that begins from now on ends so; gives how long that took."""
        begin_s = time.monotonic()
        while not any(started_s >= begin_s and found == outcome for started_s, _, found in self.outcomes[-50:]):
            assert time.monotonic() < begin_s + within_s, self.outcomes[-20:]
            time.sleep(0.01)
        return time.monotonic() - begin_s


@contextmanager
def stopped(search, proxy):
    os.kill(search.popen.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(search.popen.pid, signal.SIGCONT)


def weather(kind):
    @contextmanager
    def change(search, proxy):
        proxy.weather = kind
        if kind is Weather.RESET:
            proxy.cut()
        try:
            yield
        finally:
            proxy.weather = Weather.FINE

    return change


TROUBLES = {
    "stopped": stopped,
    "slow": weather(Weather.SLOW),
    "black hole": weather(Weather.HOLE),
    "reset": weather(Weather.RESET),
}


def held_by(pid):
    """Threads and descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())), len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("gone"))


@pytest.fixture
def served(world, tmp_path):
    """A search process, a proxy before it, and a ranking process that asks through the proxy."""
    (tmp_path / "search").mkdir()
    (tmp_path / "ranking").mkdir()
    with (
        server_process(tmp_path / "search", "search_stage", "--store", world.store, "--index", world.index) as search,
        TcpProxy(search.port, delay_s=1.0) as proxy,
        server_process(
            tmp_path / "ranking",
            "model_stage",
            *("--bundle", world.bundle, "--search", proxy.address, "--metrics-port", "0"),
        ) as ranking,
    ):
        yield search, proxy, ranking


@pytest.mark.parametrize("trouble", TROUBLES)
def test_ranking_goes_on_without_search(served, trouble, scale, tally):
    search, proxy, ranking = served
    pid = ranking.popen.pid
    with Callers(ranking.address) as callers:
        callers.wait_for("whole", 30)
        while len(callers.outcomes) < 3 * CALLERS * CONNECTIONS:  # every connection has been opened by then
            time.sleep(0.01)
        before, count = held_by(pid), len(callers.outcomes)
        back_s = []
        for _ in range(scale(1, 5)):
            with TROUBLES[trouble](search, proxy):
                time.sleep(scale(2, 10))
            back_s.append(callers.wait_for("whole", 30))
            tally.injected += 1
        time.sleep(0.5)
        after = held_by(pid)
        asked, called = value_of(ranking, "lookback_requests_total"), value_of(ranking, "lookback_search_calls_total")
    outcomes = callers.outcomes[count:]
    kinds = Counter(outcome for _, _, outcome in outcomes)
    tally.runs += len(outcomes)
    late = [took_s for _, took_s, outcome in outcomes if outcome == "late" or took_s > DEADLINE_S + LATE_S]
    tally.note = (
        f"{kinds['whole']} whole, {sum(kinds[kind] for kind in KINDS)} degraded, {len(late)} later than the deadline "
        f"and 20 ms; whole again after {max(back_s):.1f} s; threads {before[0]} to {after[0]}, files {before[1]} to "
        f"{after[1]}"
    )
    assert set(kinds) <= {"whole", "late", *KINDS}, kinds
    assert any(kinds[kind] for kind in KINDS)
    # Once the circuit is open nobody waits; a machine may stand still for longer than 20 ms.
    assert len(late) <= scale(25, 5) / 100 * len(outcomes), tally.note
    assert max(back_s) < BACK_S, tally.note
    assert after[0] <= before[0] + 4, tally.note
    assert after[1] <= before[1] + 8, tally.note  # connections that are made anew, before the old ones are gone
    assert called <= 1.1 * asked, (called, asked)
    tally.check()


def test_a_search_stage_that_starts_again_is_found(world, tmp_path, tally):
    for name in ("search", "again", "ranking"):
        (tmp_path / name).mkdir()
    roots = ("--store", world.store, "--index", world.index)
    with server_process(tmp_path / "search", "search_stage", *roots) as search:
        port = search.port
        ranking_of = ("--bundle", world.bundle, "--search", search.address)
        with (
            server_process(tmp_path / "ranking", "model_stage", *ranking_of) as ranking,
            Callers(ranking.address) as callers,
        ):
            callers.wait_for("whole", 30)
            search.popen.kill()
            callers.wait_for("circuit_open", 10)
            with server_process(tmp_path / "again", "search_stage", *roots, port=port):
                back_s = callers.wait_for("whole", BACK_S)
    tally.injected, tally.runs = 1, len(callers.outcomes)
    tally.note = f"whole again {back_s:.1f} s after it serves"
    tally.check()
