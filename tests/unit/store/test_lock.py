import json
import os
import subprocess
import sys

import pytest

from store.errors import LockedError, StoreIOError
from store.publishing.lock import FileLock, lock_holder

HOLD = """
import sys
from pathlib import Path
from store.publishing.lock import FileLock
with FileLock(Path(sys.argv[1]), "test"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.lock"


@pytest.fixture
def other_process(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_holder_is_told_about_the_first(path):
    with FileLock(path, "sweep"):
        with pytest.raises(LockedError, match=rf"held by process {os.getpid()} on .* to sweep; wait for it"):
            FileLock(path, "mop").__enter__()
        holder = lock_holder(path)
        assert holder.pid == os.getpid()
        assert holder.purpose == "sweep"
    assert lock_holder(path) is None
    with FileLock(path, "mop"):
        assert lock_holder(path).purpose == "mop"


def test_another_process_keeps_us_out_until_it_is_killed(path, other_process):
    with pytest.raises(LockedError, match=f"held by process {other_process.pid} "):
        FileLock(path, "mop").__enter__()
    assert lock_holder(path).pid == other_process.pid
    other_process.kill()
    other_process.wait()
    assert lock_holder(path) is None
    with FileLock(path, "mop"):
        pass


def test_releasing_twice_does_nothing(path):
    lock = FileLock(path, "sweep")
    with lock:
        lock.release()
        with FileLock(path, "mop"):
            lock.release()
            assert lock_holder(path).purpose == "mop"


def test_a_holder_that_has_not_signed_yet_is_no_failure(path):
    with FileLock(path, "sweep"):
        path.write_text("{")
        assert lock_holder(path).pid == 0
        with pytest.raises(LockedError, match="a process that has not signed yet"):
            FileLock(path, "mop").__enter__()


def test_asking_for_a_lock_that_never_was(path):
    assert lock_holder(path) is None
    assert not path.exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreIOError, match="cannot open the lock"):
        FileLock(tmp_path / "no" / "x.lock", "sweep").__enter__()


def test_what_is_signed_is_json(path):
    with FileLock(path, "sweep"):
        assert json.loads(path.read_text())["purpose"] == "sweep"
