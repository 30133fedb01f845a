import os
import subprocess
import sys
import textwrap
import threading

import pytest

from store import BehaviorStore
from store.dataset.json_rows import parse_rows
from store.errors import LockedError, StoreClosedError
from store.live_writer import LiveWriter
from store.operations.verify.verify import verify
from store.publishing.lock import FileLock, lock_holder
from tests.worlds.datasets import build_store


def in_child(work):
    """Forks, and gives what `work` says in the child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as exc:
            answer = f"{type(exc).__name__}: {exc}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(child, 0)
    return answer


def events(*actions):
    return parse_rows(
        [dict(user=1, item=5, domain="ads", action=action, timestamp_ms=1_700_000_000_000) for action in actions]
    )


@pytest.fixture
def root(tmp_path):
    return build_store(
        tmp_path,
        behaviors=[dict(user=1, item=7, category=3, domain="ads", action="click", timestamp_ms=5)],
        taxonomy=[dict(category=3, parent=None)],
    )


@pytest.mark.parametrize(
    "use",
    [
        lambda writer: writer.append(events("wish")),
        lambda writer: writer.append_from("log/0", events("wish"), b""),
        lambda writer: writer.offset("log/0"),
        lambda writer: writer.delete_user(1),
        lambda writer: writer.trim(),
    ],
)
def test_a_child_must_not_use_the_writer_of_its_parent(root, use):
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        writer.append(events("view"))

        def work():
            with pytest.raises(StoreClosedError, match=rf"opened by process {os.getppid()} before a fork"):
                use(writer)
            writer.close()
            return "refused"

        assert in_child(work) == "refused"
        # What the child did has changed nothing: the lock is still the parent's, and its words are.
        with pytest.raises(LockedError):
            LiveWriter(store)
        assert writer.append(events("share", "view")).num_accepted == 1
        with store.snapshot() as snapshot:
            rows = snapshot.user(1).history()
            assert [snapshot.vocabulary.actions[code] for code in rows.action] == ["click", "view", "share"]
    assert verify(root).delta.num_events == 2


def test_a_child_does_not_wait_for_a_lock_that_nobody_gives_back(root):
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        held, done = threading.Event(), threading.Event()

        def hold():
            with writer._writer._turn, writer._appender._committing:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()

        def work():
            with pytest.raises(StoreClosedError):
                writer.append(events("wish"))
            with pytest.raises(StoreClosedError):
                writer.delete_user(1)
            writer.close()
            return "refused"

        assert in_child(work) == "refused"
        done.set()
        thread.join()


def test_a_child_does_not_hold_the_locks_of_its_parent(tmp_path):
    path = tmp_path / "x.lock"
    ready, leave = os.pipe(), os.pipe()
    with FileLock(path, "sweep"):
        child = os.fork()
        if child == 0:
            os.write(ready[1], b".")
            os.read(leave[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        assert lock_holder(path).pid == os.getpid()
    try:
        assert lock_holder(path) is None
        with FileLock(path, "mop"):
            pass
    finally:
        os.write(leave[1], b".")
        os.waitpid(child, 0)


@pytest.mark.parametrize("reopens", [False, True])
def test_a_child_that_ends_takes_no_place_among_the_readers_away_from_its_parent(root, reopens):
    script = f"""
        import os, sys
        from pathlib import Path
        from store import BehaviorStore
        from store.dataset.json_rows import parse_rows
        from store.live_writer import LiveWriter
        root = Path({str(root)!r})
        row = dict(user=1, item=5, domain="ads", action="view", timestamp_ms=1_700_000_000_000)
        with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
            writer.append(parse_rows([row]))
            assert len(store.history(1)) == 2
            child = os.fork()
            if child == 0:
                if {reopens}:
                    with BehaviorStore.open(root) as own:
                        assert len(own.history(1)) == 2
                sys.exit(7)  # as a program ends: what it inherited is let go of
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            writer.append(parse_rows([row | dict(item=6)]))
            assert len(store.history(1)) == 3
        with BehaviorStore.open(root) as store:
            assert len(store.history(1)) == 3
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
