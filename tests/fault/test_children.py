"""The children of the fault tests themselves."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver

from tests.fault.children import run_child

LANES = 4


def test_children_side_by_side_end_with_their_own_status(monkeypatch):
    """A start reads the statuses of all children that have ended; it must not take one from the thread that waits."""
    read = forkserver.read_signed

    def read_late(descriptor):
        time.sleep(0.01)
        return read(descriptor)

    monkeypatch.setattr(forkserver, "read_signed", read_late)
    with ThreadPoolExecutor(LANES) as pool:
        outcomes = list(pool.map(lambda _: run_child(time.sleep, 0.01), range(8 * LANES)))
    assert [outcome.exit_code for outcome in outcomes] == [0] * len(outcomes)
