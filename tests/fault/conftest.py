"""One seed for all fault tests, how long they may take, and the table of what was injected and what came of it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.tally import Tally

_LONG = bool(os.environ.get("LOOKBACK_FAULT_LONG"))
_SEED = int(os.environ.get("LOOKBACK_FAULT_SEED") or (random.SystemRandom().randrange(10**6) if _LONG else 1))


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to do."""

    long: bool

    def __call__(self, short: int, long: int) -> int:
        """Gives the one number or the other."""
        return long if self.long else short


_TALLIES: list[Tally] = []


@pytest.fixture(scope="session")
def scale():
    """`scale(3, 200)`: 3 in the short form, 200 in the long one."""
    return Scale(_LONG)


@pytest.fixture
def seed(request):
    """A number that depends on the seed of the run and on the test only."""
    return (_SEED << 32) | zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed):
    """Random numbers of this test alone."""
    return random.Random(seed)


@pytest.fixture
def folder(tmp_path):
    """A folder in memory where there is one: syncs cost nothing, and a kill loses no more there than on a disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="fault-", dir=memory) as name:
        yield Path(name)


@pytest.fixture
def tally(request):
    """Counts, and shows in the table at the end."""
    found = Tally(request.node.name.removeprefix("test_").replace("_", " "))
    _TALLIES.append(found)
    return found


def pytest_runtest_logreport(report):
    if report.failed and report.nodeid.startswith("tests/fault/"):
        report.sections.append(("seed", f"LOOKBACK_FAULT_SEED={_SEED}"))


def pytest_sessionfinish(session):
    if any(tally.lost or tally.corrupt for tally in _TALLIES) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if not _TALLIES:
        return
    form = "long" if _LONG else "short"
    terminalreporter.write_line(f"fault tests: {form} form, LOOKBACK_FAULT_SEED={_SEED}")
    if not _LONG:
        return
    width = max(len(tally.name) for tally in _TALLIES)
    row = f"{{:<{width}}}  {{:>7}}  {{:>8}}  {{:>6}}  {{:>14}}  {{}}".format
    terminalreporter.write_line(row("test", "runs", "injected", "lost", "corrupt served", ""))
    total = Tally("total")
    for tally in _TALLIES:
        terminalreporter.write_line(
            row(tally.name, tally.runs, tally.injected, tally.lost, tally.corrupt, tally.note).rstrip()
        )
        total += tally
    terminalreporter.write_line(row("total", total.runs, total.injected, total.lost, total.corrupt, "").rstrip())
