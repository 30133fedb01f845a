"""What a store must not outgrow or share: the delta's map, the table of readers, the locks, a read-only disk."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest

from store.errors import LockedError, StoreIOError
from store.publishing.generation import current_name
from tests.fault import jobs, trouble
from tests.fault.children import Child, run_child
from tests.fault.ledger import Ledger
from tests.fault.mounts import read_only, small_disk
from tests.worlds import fault_store

BASE = np.arange(300)


def test_a_full_map(folder, scale, rng, tally):
    """Appends are refused when the delta's address space is used up, lose nothing, and succeed after a rebuild."""
    for at in range(scale(2, 30)):
        root = fault_store.make_store(folder / str(at), BASE)
        pages = rng.randint(60, 400)
        outcome = run_child(trouble.fill_map, root, pages * 4096, 5000, rng.randrange(2**32))
        tally.runs += 1
        result = outcome.unwrap()
        tally.injected += result.refusals
        tally.lost += result.lost
        found = run_child(jobs.inspect, root).unwrap()
        Ledger(np.concatenate((BASE, np.arange(5000, result.stop)))).settle(tally, found)
    tally.check()


def test_readers_killed_with_an_open_transaction(folder, scale, rng, tally):
    """Their places in the table are cleared, and the pages that they saw are used again: the file does not grow."""
    sizes = {}
    for name, killed in (("without", 0), ("with", scale(6, 60))):
        root = fault_store.make_store(folder / name, BASE)
        stop = 5000
        for _ in range(scale(3, 10)):
            for _ in range(killed):
                reader = Child(trouble.hold_a_snapshot, root)
                reader.kill_after(rng.uniform(0.02, 0.05))
            run_child(jobs.append_some, root, stop, stop + 3000).unwrap()
            run_child(jobs.rebuild_it, root, 1).unwrap()
            stop += 3000
            tally.runs += 1
            tally.injected += killed
        found = run_child(jobs.inspect, root).unwrap()
        Ledger(np.concatenate((BASE, np.arange(5000, stop)))).settle(tally, found)
        assert run_child(trouble.count_readers, root).unwrap() <= 1
        sizes[name] = (root / "delta" / "data.mdb").stat().st_size
    assert sizes["with"] <= 1.25 * sizes["without"], sizes
    tally.check()


def test_a_reader_killed_beside_a_writer_that_stays_open(folder, scale, tally):
    """Nobody opens the delta again, and still what the dead reader saw does not pin every page written since."""
    root = fault_store.make_store(folder, BASE)
    run_child(jobs.append_some, root, 5000, 6000).unwrap()
    count = scale(600, 6000)
    reader = Child(trouble.hold_a_snapshot, root)
    time.sleep(0.3)
    go = folder / "go"
    writer = Child(trouble.append_one_by_one, root, 6000, count, go)
    time.sleep(0.3)
    assert reader.kill().killed
    go.touch()
    size = writer.wait().unwrap()
    tally.runs = tally.injected = 1
    found = run_child(jobs.inspect, root).unwrap()
    Ledger(np.concatenate((BASE, np.arange(5000, 6000 + count)))).settle(tally, found)
    assert size < 6 << 20, f"the delta takes {size} bytes for {1000 + count} events"
    tally.check()


def test_two_writers(folder, tally):
    """The second one is told who the first one is; when that is killed, it may write at once."""
    root = fault_store.make_store(folder, BASE)
    for hold, take in ((trouble.hold_the_writer, jobs.append_some), (trouble.hold_the_build, jobs.rebuild_it)):
        args = (root, 5000, 5100) if take is jobs.append_some else (root,)
        held = folder / f"held-{take.__name__}"
        holder = Child(hold, root, held)
        while not held.exists():
            time.sleep(0.01)
        tally.runs += 1
        tally.injected += 1
        error = run_child(take, *args).error
        assert isinstance(error, LockedError)
        assert f"process {holder.pid} on " in str(error)
        tally.lost += len(run_child(jobs.inspect, root).unwrap().numbers) != len(BASE)
        assert holder.kill().killed
        run_child(take, *args).unwrap()
        if take is jobs.append_some:
            Ledger(np.concatenate((BASE, np.arange(*args[1:])))).settle(tally, run_child(jobs.inspect, root).unwrap())
            run_child(jobs.delete_some, root, list(range(fault_store.NUM_USERS))).unwrap()
            root = fault_store.make_store(folder / "other", BASE)
    tally.check()


@pytest.mark.parametrize("how", ["bind", "remount"])
def test_a_read_only_file_system(how, folder, tally):
    """Reads go on; whatever would write is refused with an error of the store, and nothing changes."""
    root = fault_store.make_store(folder, BASE)
    more = fault_store.write_events(folder / "more", np.arange(200, 500))
    run_child(jobs.append_some, root, 5000, 5100).unwrap()
    expected = run_child(jobs.inspect, root).unwrap()
    if how == "bind":
        with read_only(root, folder / "place") as place:
            _check_read_only(tally, place, more, expected)
        return
    with small_disk(folder / "disk", 16 << 20) as disk:
        place = disk / "root"
        shutil.copytree(root, place)
        (place / "delta" / "lock.mdb").unlink()
        done = subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot be remounted: {done.stderr}")
        _check_read_only(tally, place, more, expected)


def _check_read_only(tally, root, more, expected):
    jobs_that_write = (
        (jobs.append_some, 6000, 6010),
        (jobs.delete_some, [1]),
        (jobs.rebuild_it,),
        (jobs.ingest_into, more),
        (jobs.roll_back_it,),
    )
    assert run_child(trouble.read_with_many_threads, root, 20).unwrap() == len(expected.numbers)
    for job, *args in jobs_that_write:
        tally.runs += 1
        tally.injected += 1
        outcome = run_child(job, root, *args)
        assert isinstance(outcome.error, StoreIOError), (job, outcome)
        found = run_child(jobs.inspect, root).unwrap()
        Ledger(expected.numbers).settle(tally, found)
        tally.corrupt += found.digest != expected.digest
    tally.check()


def test_a_clock_that_jumps_under_the_writer(folder, scale, rng, tally):
    """Times of events, of deletions and of the clock are not in the same order: what is deleted never comes back."""
    for at in range(scale(2, 40)):
        root = fault_store.make_store(folder / str(at), BASE)
        tally.runs += 1
        result = run_child(trouble.append_by_a_jumping_clock, root, rng.randrange(2**32), 60).unwrap()
        tally.injected += result.jumps
        tally.lost += result.lost
        tally.corrupt += result.wrong
    tally.check()


def test_a_clock_that_jumps_between_generations(folder, scale, rng, tally):
    """Later generations have later names, whatever the clock says, and the last one is current."""
    root = fault_store.make_store(folder, BASE)
    names = [current_name(root, "store")]
    for _ in range(scale(6, 60)):
        tally.runs += 1
        tally.injected += 1
        now_ns = rng.choice((0, rng.randrange(4 * 10**18), time.time_ns()))
        names.append(run_child(jobs.rebuild_at, root, now_ns).unwrap())
        assert current_name(root, "store") == names[-1]
        Ledger(BASE).settle(tally, run_child(jobs.inspect, root).unwrap())
        if rng.random() < 0.2:
            run_child(jobs.roll_back_it, root).unwrap()
            assert current_name(root, "store") == names[-2]
    assert names == sorted(set(names))
    tally.check()
