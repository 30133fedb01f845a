"""A small disk runs full at a random place of a build or an append: a typed error, nothing lost, and on it goes."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from store.errors import StoreIOError
from store.files.arrays import save_array
from tests.fault import jobs, trouble
from tests.fault.children import Outcome, run_child
from tests.fault.lanes import in_lanes
from tests.fault.ledger import Ledger
from tests.fault.mounts import free_all, leave_free, small_disk
from tests.worlds import fault_store

DISK_BYTES = 16 << 20
BASE = np.arange(300)
ITEMS = 600
"""So many that the arrays of the taxonomy are longer than a page."""


def was_refused(outcome: Outcome) -> bool:
    """Whether the store refused with an error of its own, after which all is as before; anything else is a failure."""
    assert not outcome.crashed, outcome
    assert outcome.done or isinstance(outcome.error, StoreIOError), outcome.error
    return not outcome.done


@pytest.mark.parametrize("job", ["ingest", "rebuild"])
def test_disk_full_during(job, folder, scale, rng, tally):
    template = fault_store.make_store(folder, BASE, items=ITEMS)
    run_child(jobs.append_some, template, 5000, 5400).unwrap()
    more = fault_store.write_events(folder / "more", np.arange(200, 3000), files=2, items=ITEMS)
    whole = shutil.copytree(template, folder / "whole")
    before = run_child(jobs.inspect, whole).unwrap()
    args = (jobs.ingest_into, more, {"memory_bytes": 1 << 20}) if job == "ingest" else (jobs.rebuild_it,)
    function, *rest = args
    run_child(function, whole, *rest).unwrap()
    after = run_child(jobs.inspect, whole).unwrap()

    def run(tally, place, seed):
        with small_disk(place / "disk", DISK_BYTES) as disk:
            root = shutil.copytree(template, disk / "root")
            leave_free(disk, random.Random(seed).randrange(600 << 10))
            outcome = run_child(function, root, *rest)
            tally.runs += 1
            refused = was_refused(outcome)
            tally.injected += refused
            found = run_child(jobs.inspect, root).unwrap()  # with the disk as full as it is
            expected = after if found.generation != before.generation else before
            tally.lost += outcome.done and expected is before
            Ledger(expected.numbers).settle(tally, found)
            tally.corrupt += found.digest != expected.digest
            free_all(disk)
            run_child(function, root, *rest).unwrap()
            again = run_child(jobs.inspect, root).unwrap()
            Ledger(after.numbers).settle(tally, again)
            tally.corrupt += again.digest != after.digest
            assert not list(root.glob(".*")), "the next build clears away what was left"
        (place / "disk").rmdir()

    in_lanes(folder, tally, [rng.randrange(2**32) for _ in range(scale(4, 60))], run)
    tally.check()


def test_disk_full_during_append(folder, scale, rng, tally):
    """The writer that was refused goes on as soon as there is room again, and the same batch succeeds."""
    template = fault_store.make_store(folder, BASE)

    def run(tally, place, seed):
        with small_disk(place / "disk", DISK_BYTES) as disk:
            root = shutil.copytree(template, disk / "root")
            leave_free(disk, random.Random(seed).randrange(200 << 10, 600 << 10))
            result = run_child(trouble.append_until_refused, root, disk, 5000, seed).unwrap()
            tally.runs += 1
            tally.injected += result.refusals
            tally.lost += result.lost
            found = run_child(jobs.inspect, root).unwrap()
            Ledger(np.concatenate((BASE, np.arange(5000, result.stop)))).settle(tally, found)
        (place / "disk").rmdir()

    in_lanes(folder, tally, [rng.randrange(2**32) for _ in range(scale(4, 60))], run)
    tally.check()


def test_readers_of_a_full_disk(folder, tally):
    """Nothing at all is free: reading needs no room that is not there yet, and a lock that does says so."""
    template = fault_store.make_store(folder, BASE)
    run_child(jobs.append_some, template, 5000, 5050).unwrap()
    with small_disk(folder / "disk", DISK_BYTES) as disk:
        for was_open in (True, False):
            root = shutil.copytree(template, disk / "root")
            (root / "delta" / "lock.mdb").unlink()
            if was_open:
                run_child(jobs.inspect, root).unwrap()
            leave_free(disk, 0)
            outcome = run_child(trouble.read_with_many_threads, root, 200)
            tally.runs += 1
            tally.injected += 1
            tally.corrupt += outcome.crashed
            if outcome.error is not None:
                assert isinstance(outcome.error, StoreIOError), outcome.error
            elif outcome.done:
                tally.lost += outcome.value != 350
            free_all(disk)
            assert run_child(trouble.read_with_many_threads, root, 200).unwrap() == 350
            shutil.rmtree(root)
    tally.check()


def test_disk_full_at_the_last_bytes_of_an_array(folder, tally):
    """`np.save` leaves them in a buffer whose end nobody looks at: such an array was published cut short."""
    with small_disk(folder / "disk", DISK_BYTES) as disk:
        for length in range(480, 540):
            leave_free(disk, 4096)
            tally.runs += 1
            array = np.arange(length, dtype=np.uint64)
            try:
                save_array(disk / "array.npy", array)
            except OSError:
                tally.injected += 1
            else:
                tally.corrupt += not np.array_equal(np.load(disk / "array.npy"), array)
            (disk / "array.npy").unlink()
    tally.check()
