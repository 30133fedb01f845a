"""Workers of a search server are killed under load."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from datetime import datetime

import grpc

from tests.fault.searching import Callers
from tests.worlds.fault_search import make_search_world
from tests.worlds.services import server_process
from tests.worlds.workers import events_of, wait_until, worker_pids

WORKERS = 2
BACK_S = 5.0


def test_a_killed_worker_comes_back_and_the_others_serve(folder, scale, rng, seed, tally):
    """Only calls on connections to the killed worker fail, as unavailable; made again, they are answered."""
    world = make_search_world(folder, rng, tags=1)
    roots = ("--store", world.store, "--index", world.index)
    failures, answered = [], Counter()
    with server_process(folder, "search_stage", *roots, "--workers", str(WORKERS)) as process:
        for number in range(scale(1, 20)):
            victim = 1 + number % WORKERS
            # New connections each time: those of a killed worker stay with the one they fled to.
            with Callers(world, process.address, 8, seed + 100 * number, name=f"{number}") as callers:
                callers.wait_for(50)
                killed = worker_pids(process)[victim]
                os.kill(killed, signal.SIGKILL)
                callers.wait_for(50)
                wait_until(lambda was=killed, at=victim: serves_again(process, at, was), process)
                callers.wait_for(50)
            tally.injected += 1
            tally.runs += callers.num_answers
            tally.corrupt += len(callers.wrong)
            failures += [(victim, failure) for failure in callers.failures]
        worker_of = {
            event["request_id"]: event["worker"]
            for line in process.log.read_text().splitlines()
            if (event := json.loads(line))["event"] == "request"
        }
        answered.update(worker_of.values())
        pauses = restarts(events_of(process))
        assert process.terminate() == 0, process.log.read_text()[-3000:]
    assert {failure.code for _, failure in failures} <= {grpc.StatusCode.UNAVAILABLE}
    tally.lost += sum(worker_of.get(failure.last_answered, victim) != victim for victim, failure in failures)
    assert len(answered) == WORKERS
    assert len(pauses) == tally.injected
    assert max(pauses) < BACK_S * scale(3, 1), pauses  # beside other tests a start takes longer
    tally.note = f"serves again after {max(pauses):.1f} s at most; {len(failures)} calls were made again"
    tally.check()


def serves_again(process, number, killed):
    """Whether a worker has been started since it was killed, and serves."""
    # Which of the two lines comes first is up to two processes: it serves within milliseconds.
    mine = Counter(event["event"] for event in events_of(process) if event.get("worker") == number)
    return worker_pids(process)[number] != killed and mine["serving"] == mine["worker started"]


def restarts(events):
    """From each death of a worker to the moment it served again, seconds."""
    died, pauses = {}, []
    for event in events:
        at = datetime.fromisoformat(event["timestamp"])
        if event["event"] == "worker died":
            died[event["worker"]] = at
        elif event["event"] == "serving" and event.get("worker") in died:
            pauses.append((at - died.pop(event["worker"])).total_seconds())
    return pauses
