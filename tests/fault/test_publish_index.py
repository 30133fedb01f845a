"""Every call of an index build that changes a file is, once each, the last one that happens, half done, or refused."""

from __future__ import annotations

import shutil

from store.errors import StoreIOError
from tests.fault import index_jobs as jobs
from tests.fault.children import KILL, REFUSE, TEAR, Fault, count_calls, run_child
from tests.fault.lanes import in_lanes

OLD, NEW = 1.0, 2.0
FAULTS = ((KILL, True), (TEAR, True), (REFUSE, True), (REFUSE, False))
"""What is to happen, and whether to one call only."""


def test_every_step_of_publishing_an_index(folder, scale, rng, tally):
    """After each the index is the old one or the new one, whole; a second build succeeds and clears away the rest."""
    store = jobs.make_store(folder)
    old, new = (jobs.write_export(folder / f"model-{value:g}", value) for value in (OLD, NEW))
    template = folder / "index"
    for _ in range(2):  # so that one is to be removed
        run_child(jobs.build_it, store, old, template).unwrap()
    whole = shutil.copytree(template, folder / "whole")
    calls = count_calls(whole, jobs.build_it, store, new, whole)

    def run(tally, place, point):
        at, action, once = point
        root = shutil.copytree(template, place / "root")
        fault = Fault(folder=root, first=at, last=at if once else None, action=action)
        outcome = run_child(jobs.build_it, store, new, root, fault=fault)
        where = f"{action} at call {at}, {calls[at]}: {outcome}"
        tally.runs += 1
        tally.injected += 1
        assert not outcome.crashed, where
        assert outcome.error is None or isinstance(outcome.error, StoreIOError), where
        name, value, _ = run_child(jobs.inspect, root).unwrap()
        tally.lost += outcome.done and name != outcome.value
        tally.corrupt += value not in (OLD, NEW)
        run_child(jobs.build_it, store, new, root).unwrap()
        _, again, count = run_child(jobs.inspect, root).unwrap()
        tally.corrupt += (again, count) != (NEW, 2)
        assert not list(root.glob(".*")), where
        shutil.rmtree(root)

    points = [(at, *fault) for at in range(len(calls)) for fault in FAULTS]
    # Of the removals of old files one in five: they are all alike.
    points = [point for point in points if not calls[point[0]].startswith("remove") or point[0] % 5 == 0]
    in_lanes(folder, tally, points if scale.long else rng.sample(points, 8), run)
    tally.note = f"{len(calls)} calls a build"
    tally.check()
