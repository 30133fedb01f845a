"""The supervisor with workers that are a few lines each: started, killed, started again, ended."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving import ServeOptions, Supervisor, make_logger
from serving.slot import WorkerReport
from serving.workers.port import reserved_port
from serving.workers.process import start_program
from serving.workers.supervisor import _meeting_folder
from store.errors import InputError

WORKER = """
import json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({exit_code}))
with open({report!r} + ".part", "w") as file:
    json.dump(dict(pid=os.getpid(), port={port}, metrics_port=None), file)
os.rename({report!r} + ".part", {report!r})
os.read(0, 1)
"""


def worker(options, exit_code=0):
    text = WORKER.format(report=str(options.worker.report), port=options.port, exit_code=exit_code)
    return [sys.executable, "-S", "-c", text]


STANDING_BY = """
import sys
if sys.argv[2:]:
    from serving import make_logger
    from serving.workers.fork_server import serve_fork_requests
    report = serve_fork_requests(int(sys.argv[3]), make_logger("test"))
    if not report:
        sys.exit()
else:
    report = sys.argv[1]
"""


def worker_or_standby(options):
    text = STANDING_BY + WORKER.replace("{report!r}", "report").format(port=options.port, exit_code=0)
    return [sys.executable, "-c", text, str(options.worker.report)]


class Run:
    """A supervisor at work in this thread, while `script` runs in another; ends with SIGTERM when that does."""

    def __init__(self, command, script, *, workers=2, fork_server=False, **options):
        self.log = io.StringIO()
        self.supervisor = Supervisor(
            workers, ServeOptions(**options), command, make_logger("test", self.log), fork_server=fork_server
        )
        self.failures = []

        def play():
            try:
                script(self)
            except BaseException as error:
                self.failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        player = threading.Thread(target=play)
        player.start()
        try:
            self.exit_code = self.supervisor.run()
        finally:
            player.join(60)
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.failures:
            raise self.failures[0]

    def wait_for_failure(self):
        """Waits until a worker could not start."""
        give_up_s = time.monotonic() + 60
        while "worker could not start" not in self.log.getvalue():
            assert time.monotonic() < give_up_s, self.log.getvalue()
            time.sleep(0.01)

    def events(self):
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def reports(self):
        """Waits until every worker serves."""
        give_up_s = time.monotonic() + 60
        while True:
            found = [worker.report for worker in self.supervisor._workers]
            if found and None not in found:
                return found
            assert time.monotonic() < give_up_s, self.log.getvalue()
            time.sleep(0.01)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("given", "seen"), [(None, "1"), ("3", "3")])
def test_programs_have_one_openmp_thread_unless_they_are_told_otherwise(monkeypatch, tmp_path, given, seen):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    code = f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    with start_program([sys.executable, "-S", "-c", code]) as process:
        assert process.wait(60) == 0
    assert (tmp_path / "seen").read_text() == seen


def test_workers_are_started_and_ended_in_order(tmp_path):
    port_file, pids = tmp_path / "port", []

    def script(run):
        pids.extend(report.pid for report in run.reports())
        give_up_s = time.monotonic() + 30
        while not port_file.exists():
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        assert int(port_file.read_text()) == run.reports()[0].port > 0

    run = Run(worker, script, workers=3, port_file=port_file)
    assert run.exit_code == 0
    assert not any(alive(pid) for pid in pids)
    assert not port_file.exists()
    serving = [event for event in run.events() if event["event"] == "serving"]
    assert [event["workers"] for event in serving] == [3]


def test_a_worker_that_dies_is_started_again_and_the_others_stay():
    def script(run):
        for kills in range(1, 4):
            one, other = (report.pid for report in run.reports())
            os.kill(one, signal.SIGKILL)
            give_up_s = time.monotonic() + 60
            while (report := run.supervisor._workers[0].report) is None or report.pid == one:
                assert time.monotonic() < give_up_s
                time.sleep(0.01)
            assert run.supervisor._workers[1].report.pid == other
            assert run.supervisor._workers[0].restarts == kills

    run = Run(worker, script)
    assert run.exit_code == 0
    died = [event for event in run.events() if event["event"] == "worker died"]
    assert [event["ended_by"] for event in died] == ["SIGKILL"] * 3
    pauses = [event["starts_again_in_s"] for event in died]
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 3


def test_whoever_stands_by_forks_the_others_and_those_that_come_after_one_that_died():
    standbys = []

    def wait_for(what):
        give_up_s = time.monotonic() + 60
        while not (found := what()):
            assert time.monotonic() < give_up_s, run_of[0].log.getvalue()
            time.sleep(0.01)
        return found

    def is_forked(pid):
        return b"--standby" in Path(f"/proc/{pid}/cmdline").read_bytes()

    def kill(run, at):
        worker = run.supervisor._workers[at]
        was = worker.report.pid
        os.kill(was, signal.SIGKILL)
        pid = wait_for(lambda: (report := worker.report) and report.pid != was and report.pid)
        assert is_forked(pid)
        return pid

    run_of = []

    def script(run):
        run_of.append(run)
        first, second = (report.pid for report in run.reports())
        assert (is_forked(first), is_forked(second)) == (False, True)
        standbys.append(run.supervisor._fork_server.pid)
        pids = [kill(run, at) for at in (1, 0, 1, 0)]
        assert run.supervisor._fork_server.pid == standbys[0]
        os.kill(standbys[0], signal.SIGKILL)
        standbys.append(wait_for(lambda: (pid := run.supervisor._fork_server.pid) != standbys[0] and pid))
        assert [report.pid for report in run.reports()] == [pids[-1], pids[-2]]  # whoever forked them may go
        kill(run, 1)

    run = Run(worker_or_standby, script, fork_server=True)
    assert run.exit_code == 0
    assert standbys[0] != standbys[1]
    assert not any(map(alive, standbys))
    assert [event["ended_by"] for event in run.events() if event["event"] == "standby died"] == ["SIGKILL"]
    assert {event["ended_by"] for event in run.events() if event["event"] == "worker died"} == {"SIGKILL"}


def test_what_no_worker_can_serve_is_said_once_and_is_the_exit_status(capfd):
    def command(options):
        return [sys.executable, "-S", "-c", "import sys; sys.stderr.write('error: no store\\n'); sys.exit(7)"]

    run = Run(command, Run.wait_for_failure)
    assert run.exit_code == 7
    assert capfd.readouterr().err == "error: no store\n"


def test_a_second_worker_that_does_not_come_up_ends_the_first():
    pids = []

    def command(options):
        if options.worker.number == 2:
            pids.append(WorkerReport.read(options.worker.folder / "worker-1.json"))
            return [sys.executable, "-S", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
        return worker(options)

    run = Run(command, Run.wait_for_failure)
    assert run.exit_code == 1
    assert [event["ended_by"] for event in run.events() if event["event"] == "worker could not start"] == ["SIGSEGV"]


def test_a_worker_that_does_not_finish_makes_the_exit_status():
    run = Run(lambda options: worker(options, exit_code=3 if options.worker.number == 2 else 0), Run.reports)
    assert run.exit_code == 1
    [event] = [event for event in run.events() if event["event"] == "worker did not end in order"]
    assert (event["worker"], event["ended_by"]) == (2, "exit status 3")


def test_the_page_shows_which_workers_serve():
    def script(run):
        run.reports()
        port = next(event["metrics_port"] for event in run.events() if event["event"] == "metrics")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            text = page.read().decode()
        assert 'lookback_worker_up{worker="2"} 0.0' in text  # toys have no page of their own
        assert 'lookback_worker_restarts_total{worker="1"} 0.0' in text

    assert Run(worker, script, metrics_port=0).exit_code == 0


def test_a_worker_ends_when_its_supervisor_is_gone():
    code = "from serving.workers.worker import end_with_supervisor; end_with_supervisor(); print(1, flush=True); "
    command = [sys.executable, "-c", code + "import time; time.sleep(60)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(30) == -signal.SIGTERM


@contextmanager
def listening(*, shared):
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_listens_on_is_refused_though_it_could_be_shared(shared):
    with (
        listening(shared=shared) as port,
        pytest.raises(InputError, match=r"^port: .*taken"),
        reserved_port(ServeOptions(port=port)),
    ):
        pass


def test_a_reserved_port_is_refused_to_others_and_takes_no_connection():
    with reserved_port(ServeOptions()) as port:
        with pytest.raises(InputError, match=r"^port: "), reserved_port(ServeOptions(port=port)):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    with pytest.raises(InputError, match=r"^port: "), reserved_port(ServeOptions(host="203.0.113.7", insecure=True)):
        pass


def test_what_a_killed_supervisor_left_is_cleared_away_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("lookback-workers-dead", "lookback-workers-alive", "lookback-workers-new", "something-else")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "served.json").write_text("{}")
        if not name.endswith("new"):
            os.utime(tmp_path / name, (1, 1))
    alive = os.open(tmp_path / "lookback-workers-alive", os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_SH)
    with _meeting_folder() as mine:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], mine.name])
    os.close(alive)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
