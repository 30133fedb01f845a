"""Whoever stands by: what it forks, and what becomes of an order that it cannot take."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving import make_logger
from serving.workers import fork_server
from serving.workers.fork_server import CANNOT_FORK, ForkServer
from serving.workers.process import ForkedProcess

PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from serving import make_logger
from serving.workers.fork_server import serve_fork_requests
if sys.argv[1] == "threads":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
file = serve_fork_requests(int(sys.argv[3]), make_logger("test", sys.stdout))
if file:
    part = Path(file).with_suffix(".part")
    part.write_text(f"{os.getpid()} {os.getsid(0)} {threading.active_count()}")
    part.rename(file)
    os.read(0, 1)
    sys.exit(7)
"""


@contextmanager
def standing_by(name, log=None):
    command = [sys.executable, "-c", PROGRAM, name]
    one = ForkServer(command, make_logger("test", log or io.StringIO()))
    one.keep()
    try:
        yield one
    finally:
        one.end()


def wait_for(what):
    give_up_s = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    return found


def test_it_forks_children_of_the_supervisor_that_end_with_their_lifeline(tmp_path):
    with standing_by("one") as one:
        assert one.is_preparing
        assert one.take("too early") is None
        pid = wait_for(lambda: one.pid)
        taken = []
        for at in range(3):
            file = tmp_path / str(at)
            process = one.take(str(file))
            wait_for(file.exists)
            assert file.read_text() == f"{process.pid} {process.pid} 1"
            assert process.poll() is None
            taken.append(process)
        assert one.pid == pid
    for process in taken:  # it is gone, they are not
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == process.poll() == 7


def test_one_with_several_threads_does_not_fork_and_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(fork_server, "PAUSE_S", 0.0)
    log = io.StringIO()
    with standing_by("threads", log) as one:
        wait_for(lambda: not one.is_preparing)
        for _ in range(3):
            one.keep()
            assert one.take("anything") is None
            assert not one.is_preparing
    [event] = map(json.loads, log.getvalue().splitlines())
    assert (event["event"], event["ended_by"]) == ("standby died", f"exit status {CANNOT_FORK}")


@pytest.mark.parametrize("stage", ["search_stage", "model_stage"])
def test_a_stage_can_stand_by_once_it_is_imported(stage):
    """Some libraries start threads as soon as they are imported."""
    program = f"import os, {stage}.serving.server; print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_one_that_does_not_answer_is_killed_and_another_one_started(tmp_path, monkeypatch):
    monkeypatch.setattr(fork_server, "PAUSE_S", 0.0)
    monkeypatch.setattr(fork_server, "_ANSWER_S", 0.1)
    log = io.StringIO()
    with standing_by("deaf", log) as one:
        deaf = wait_for(lambda: one.pid)
        os.kill(deaf, signal.SIGSTOP)
        assert one.take(str(tmp_path / "a")) is None
        assert not Path(f"/proc/{deaf}").exists()
        one.keep()
        assert wait_for(lambda: one.pid) != deaf
        os.kill(one.pid, signal.SIGKILL)
        wait_for(lambda: one._process.poll() is not None)
        assert one.take(str(tmp_path / "b")) is None
    assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["standby did not answer"] * 2
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_left_to_this_one_is_waited_for_and_killed():
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
    process = ForkedProcess(child.pid, child.stdin)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    threading.Timer(0.05, process.kill).start()
    assert process.wait(30) == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # nobody hears it, whoever has that number now
    assert child.poll() is not None
    child.stdin.close()
