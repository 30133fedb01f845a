"""Every call of a build that changes a file is, once each, the last one that happens, half done, or refused."""

from __future__ import annotations

import shutil

import numpy as np

from store.errors import StoreIOError
from tests.fault import jobs
from tests.fault.children import KILL, REFUSE, TEAR, Fault, count_calls, run_child
from tests.fault.lanes import in_lanes
from tests.fault.ledger import Ledger
from tests.worlds import fault_store

BASE = np.arange(300)
FAULTS = ((KILL, True), (TEAR, True), (REFUSE, True), (REFUSE, False))
"""What is to happen, and whether to one call only."""


def test_every_step_of_publish(folder, scale, rng, tally):
    """After each the store is as before or as it is to be, the error is of the store, and a second run succeeds."""
    # With a generation that is to be removed, and with events to be merged and trimmed.
    template = fault_store.make_store(folder, BASE)
    run_child(jobs.rebuild_it, template).unwrap()
    run_child(jobs.append_some, template, 5000, 5050).unwrap()
    more = fault_store.write_events(folder / "more", np.arange(200, 500))
    options = {"keep": 2}
    whole = shutil.copytree(template, folder / "whole")
    before = run_child(jobs.inspect, whole).unwrap()
    calls = count_calls(whole, jobs.ingest_into, whole, more, options)
    after = run_child(jobs.inspect, whole).unwrap()
    assert (len(before.numbers), len(after.numbers)) == (350, 550)

    def run(tally, place, point):
        at, action, once = point
        root = shutil.copytree(template, place / "root")
        fault = Fault(folder=root, first=at, last=at if once else None, action=action)
        outcome = run_child(jobs.ingest_into, root, more, options, fault=fault)
        where = f"{action} at call {at}, {calls[at]}: {outcome}"
        tally.runs += 1
        tally.injected += 1
        assert not outcome.crashed, where
        assert outcome.error is None or isinstance(outcome.error, StoreIOError), where
        found, again = run_child(jobs.inspect_twice, root, jobs.ingest_into, root, more, options).unwrap()
        expected = after if found.digest == after.digest else before
        tally.lost += outcome.done and expected is before
        Ledger(expected.numbers).settle(tally, found)
        tally.corrupt += (found.digest != expected.digest) + (again.digest != after.digest)
        assert not list(root.glob(".*")), where
        shutil.rmtree(root)

    first = min(at for at, call in enumerate(calls) if "manifest.json" in call)
    points = [(at, *fault) for at in range(first, len(calls)) for fault in FAULTS]
    # Of the removals of old files one in five: they are all alike.
    points = [point for point in points if not calls[point[0]].startswith("remove") or point[0] % 5 == 0]
    points += [(at, REFUSE, True) for at in range(first)]
    in_lanes(folder, tally, points if scale.long else rng.sample(points, 14), run)
    tally.note = f"{len(calls)} calls a build, {len(calls) - first} of them from the manifest on"
    tally.check()
