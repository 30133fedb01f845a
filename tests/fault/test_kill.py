"""Processes killed at random, by the clock and at a call that changes a file: nothing acknowledged is ever lost."""

from __future__ import annotations

import random
import shutil
import time

import numpy as np

from tests.fault import jobs, traffic
from tests.fault.children import KILL, TEAR, Child, Fault, count_calls, run_child
from tests.fault.lanes import in_lanes
from tests.fault.ledger import Ledger
from tests.worlds import fault_store
from tests.worlds.workers import runs

BASE = np.arange(600)


def killed(rng, num_calls, duration_s, root, function, *args):
    """Runs a job and kills it at a random moment or call; gives whether it was still at work."""
    if rng.random() < 0.5:
        return Child(function, *args).kill_after(rng.uniform(0, duration_s)).killed
    fault = Fault(folder=root, first=rng.randrange(num_calls), action=rng.choice((KILL, TEAR)))
    outcome = run_child(function, *args, fault=fault)
    assert not outcome.crashed, outcome
    return outcome.killed


def test_kill_during_ingest(folder, scale, rng, tally):
    """A killed ingest leaves the store as it was or has published; run again, it comes to the same end."""
    template = fault_store.make_store(folder, BASE)
    run_child(jobs.append_some, template, 5000, 5100).unwrap()
    more = fault_store.write_events(folder / "more", np.arange(500, 1800), files=3)
    options = {"memory_bytes": 1 << 20}
    whole = shutil.copytree(template, folder / "whole")
    before = run_child(jobs.inspect, whole).unwrap()
    calls = len(count_calls(whole, jobs.ingest_into, whole, more, options))
    after = run_child(jobs.inspect, whole).unwrap()
    duration_s = run_child(jobs.ingest_into, shutil.copytree(template, folder / "timed"), more, options).duration_s

    def run(tally, place, seed):
        rng = random.Random(seed)
        root = shutil.copytree(template, place / "root")
        for _ in range(rng.randint(1, 3)):  # what one left behind is found by the next
            tally.runs += 1
            tally.injected += killed(rng, calls, duration_s, root, jobs.ingest_into, root, more, options)
        found, again = run_child(jobs.inspect_twice, root, jobs.ingest_into, root, more, options).unwrap()
        expected = after if found.digest == after.digest else before
        Ledger(expected.numbers).settle(tally, found)
        Ledger(after.numbers).settle(tally, again)
        tally.corrupt += (found.digest != expected.digest) + (again.digest != after.digest)
        assert not list(root.glob(".*")), "a later ingest clears away what a killed one left"
        shutil.rmtree(root)

    in_lanes(folder, tally, [rng.randrange(2**32) for _ in range(scale(4, 110))], run)
    tally.check()


def test_kill_during_append(folder, scale, rng, tally):
    """What was acknowledged is there, once, after every kill, and what was under way is there whole or not at all."""
    root = fault_store.make_store(folder, BASE)
    ledger = Ledger(BASE)
    for at in range(scale(5, 200)):
        journal = folder / f"journal-{at}"
        tally.runs += 1
        threads = rng.choice((1, 1, 3))
        tally.injected += killed(
            rng, 600, 0.15, root, jobs.append_for_ever, root, journal, ledger.next_number, rng.randrange(2**32), threads
        )
        ledger.settle(tally, run_child(jobs.inspect, root).unwrap(), journal)
        if rng.random() < 0.03:
            run_child(jobs.rebuild_it, root).unwrap()
            ledger.settle(tally, run_child(jobs.inspect, root).unwrap())
    tally.note = f"{len(ledger.held) - len(BASE):,} events and {len(ledger.deleted)} deletions acknowledged"
    tally.check()


def test_kill_during_rebuild(folder, scale, rng, tally):
    """Rebuilds are killed while one process appends and another one reads: neither notices."""
    root = fault_store.make_store(folder, BASE)
    calls = len(count_calls(root, jobs.rebuild_it, root))
    duration_s = run_child(jobs.rebuild_it, root).duration_s
    journals, stop = [folder / "journal"], folder / "stop"
    appender = Child(traffic.append_steadily, root, journals, stop)
    reader = Child(traffic.read_steadily, root, journals, stop, rng.randrange(2**32), 1)
    for _ in range(scale(5, 200)):
        tally.runs += 1
        tally.injected += killed(rng, calls, duration_s, root, jobs.rebuild_it, root, rng.randint(1, 3))
        assert reader.alive, reader.wait()
        assert appender.alive, appender.wait()
        if rng.random() < 0.2:
            appender.kill()
            appender = Child(traffic.append_steadily, root, journals, stop)
        tally.corrupt += run_child(jobs.inspect, root).unwrap().wrong
    stop.touch()
    appender.wait().unwrap()
    seen = reader.wait().unwrap()
    tally.lost += seen.lost
    tally.corrupt += seen.wrong
    ledger = Ledger(BASE)
    ledger.settle(tally, run_child(jobs.inspect, root).unwrap(), *journals)
    run_child(jobs.rebuild_it, root).unwrap()
    ledger.settle(tally, run_child(jobs.inspect, root).unwrap())
    tally.note = f"{seen.reads:,} reads meanwhile over {seen.reloads} reloads"
    tally.check()


def test_kill_of_an_ingest_in_several_processes(folder, scale, rng, tally):
    """The workers of a killed ingest end with it: they would write on into the parts that the next run makes."""
    more = fault_store.write_events(folder / "more", np.arange(30_000), files=3)
    whole = folder / "whole"
    options = {"processes": 2}
    run_child(jobs.ingest_into, whole, more).unwrap()
    digest = run_child(jobs.inspect, whole).unwrap().digest
    for at in range(scale(1, 6)):
        root = folder / f"root-{at}"
        tally.runs += 1
        child = Child(jobs.ingest_into, root, more, options, daemon=False)
        while child.alive and not (workers := child.children()):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        tally.injected += child.kill().killed
        again = Child(jobs.ingest_into, root, more, options, daemon=False)
        deadline_s = time.monotonic() + 30  # one that is still importing sees it when it is done with that
        while alive := [pid for pid in workers if runs(pid)]:
            assert time.monotonic() < deadline_s, f"processes {alive} outlive the ingest that started them"
            time.sleep(0.01)
        again.wait().unwrap()
        tally.corrupt += run_child(jobs.inspect, root).unwrap().digest != digest
        shutil.rmtree(root)
    tally.check()
