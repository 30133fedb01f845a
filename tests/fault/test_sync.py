"""What is acknowledged or published is on the disk by then: a power failure, unlike a killed process, forgets caches.

No test cuts the power. System calls are traced instead, and what they left unsynced is known at every one.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.fault import index_jobs, jobs, sync_jobs
from tests.fault.children import count_calls, run_child
from tests.fault.unsynced import Unsynced
from tests.worlds import fault_store

NO_DATA = ("/build.lock", "/delta/writer.lock", "/delta/lock.mdb")


@pytest.fixture
def store(folder):
    return fault_store.make_store(folder, np.arange(60), items=5)


def lasting(paths):
    """Leaves out what nobody needs once the machine was down."""
    return {path for path in paths if path not in NO_DATA and not path.startswith("/.ingest-")}


def unsynced_before(calls, path):
    """What is unsynced when the call on a path comes."""
    at = next(at for at, call in enumerate(calls) if call.split(" ")[-1] == path)
    state = Unsynced()
    state.follow(calls[:at])
    return state


@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_acknowledged_is_on_the_disk(store, is_new):
    """Between the last write of an append or a deletion and its acknowledgement lies a sync of what was written."""
    if is_new:
        shutil.rmtree(store / "delta")
    calls = count_calls(store, sync_jobs.write_live, store)
    state = Unsynced()
    acknowledged = [at for at, call in enumerate(calls) if sync_jobs.ACKNOWLEDGED in call and call.startswith("create")]
    assert len(acknowledged) == 4
    done = 0
    for at in acknowledged:
        before = state.num_writes
        state.follow(calls[done:at])
        assert state.num_writes > before, "nothing was written, or the trace does not see it"
        assert lasting(state.files | state.folders) == set(), calls[at]
        done = at + 1


def assert_published_durably(calls):
    before = unsynced_before(calls, "/CURRENT")
    assert before.num_writes > 0
    assert lasting(before.files) == set(), "CURRENT may name what is not there"
    # Names in the root itself: that of CURRENT is to be synced with them, after its rename.
    assert lasting(before.folders) <= {""}
    after = Unsynced()
    after.follow(calls)
    assert lasting(after.files | after.folders) == set()


def test_a_generation_is_on_the_disk_before_it_is_current(folder):
    (folder / "root").mkdir()
    assert_published_durably(count_calls(folder / "root", sync_jobs.publish, folder / "root"))


def test_an_ingest_is_on_the_disk_before_it_is_current(folder, store):
    more = fault_store.write_events(folder / "more", np.arange(50, 90), items=5)
    assert_published_durably(count_calls(store, jobs.ingest_into, store, more))


def test_an_index_is_on_the_disk_before_it_is_current(folder):
    root, export = folder / "index", index_jobs.write_export(folder / "model", 1.0)
    store = index_jobs.make_store(folder)
    assert_published_durably(count_calls(root, index_jobs.build_it, store, export, root))


def test_going_back_is_on_the_disk(store):
    run_child(jobs.rebuild_it, store).unwrap()
    assert_published_durably(count_calls(store, jobs.roll_back_it, store))


@pytest.mark.parametrize("job", [sync_jobs.back_up, sync_jobs.export_it])
def test_a_folder_of_output_is_on_the_disk_before_it_has_its_name(store, job):
    run_child(jobs.append_some, store, 500, 510).unwrap()
    calls = count_calls(store.parent, job, store)
    copied = [call for call in calls if call.startswith("rename") and call.endswith("/copy")]
    assert len(copied) == 1
    building = copied[0].split(" ")[1]
    before = unsynced_before(calls, "/copy")
    assert {path for path in before.files | before.folders if path.startswith(building)} == set()
    after = Unsynced()
    after.follow(calls)
    assert "" not in after.folders


def test_refused_lines_are_on_the_disk_before_their_source_moves_on(folder):
    (folder / "log").write_text('{"user": 1}\nno JSON\n')
    calls = count_calls(folder, sync_jobs.follow_log, folder)
    before = unsynced_before(calls, f"/{sync_jobs.ACKNOWLEDGED}-taken")
    assert before.num_writes > 0
    assert before.files == set()
