"""Readers in threads and processes against one appender: every read is a prefix of what was acknowledged, at least."""

from __future__ import annotations

import time

import numpy as np

from tests.fault import jobs, traffic
from tests.fault.children import Child, run_child
from tests.fault.ledger import Ledger
from tests.worlds import fault_store

BASE = np.arange(400)


def test_reads_see_a_prefix(folder, scale, rng, tally):
    """While some threads append in group commits, and rebuilds publish, trim and remove generations."""
    root = fault_store.make_store(folder, BASE)
    journals, stop = [folder / f"journal-{number}" for number in range(3)], folder / "stop"
    readers = [Child(traffic.read_steadily, root, journals, stop, rng.randrange(2**32), 4) for _ in range(scale(2, 3))]
    appender = Child(traffic.append_steadily, root, journals, stop)
    deadline_s = time.monotonic() + scale(3, 40)
    rebuilds = 0
    while time.monotonic() < deadline_s:
        time.sleep(rng.uniform(0, 0.3))
        run_child(jobs.rebuild_it, root, rng.randint(1, 2)).unwrap()
        rebuilds += 1
    stop.touch()
    appender.wait().unwrap()
    reloads = 0
    for reader in readers:
        seen = reader.wait().unwrap()
        tally.runs += seen.reads
        tally.lost += seen.lost
        tally.corrupt += seen.wrong
        reloads += seen.reloads
    tally.injected = rebuilds
    ledger = Ledger(BASE)
    ledger.settle(tally, run_child(jobs.inspect, root).unwrap(), *journals)
    tally.note = f"reads during {len(ledger.held) - len(BASE):,} appends and {rebuilds} rebuilds"
    tally.check()
