"""A backup taken while another process appends, rebuilds and removes generations holds all that was acknowledged."""

import subprocess
import sys
import time
from pathlib import Path

from store import verify
from store.operations.backup import backup
from tests.worlds import sample
from tests.worlds.datasets import build_store

CHECKOUT = Path(__file__).resolve().parents[2]
NUM_BACKUPS = 3
WRITER = """
import sys
from pathlib import Path
from store import BehaviorStore, rebuild
from store.dataset.json_rows import parse_rows
from store.live_writer import LiveWriter

root, number = Path(sys.argv[1]), 0
with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: 10**12) as writer:
    while True:
        for _ in range(20):
            row = dict(user=number % 50, item=70, category=2, domain="ads", action="click", timestamp_ms=1000 + number)
            assert writer.append(parse_rows([row], ())).num_accepted == 1
            number += 1
            print(number, flush=True)
        rebuild(root, keep=1)
        store.reload()
        writer.trim()
"""


def test_nothing_acknowledged_is_missing(tmp_path):
    root = build_store(tmp_path, **sample.tables())
    log = tmp_path / "log"
    with log.open("w") as stream:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=stream, cwd=CHECKOUT)
    try:
        deadline_s = time.monotonic() + 60
        while not log.read_text() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        for number in range(NUM_BACKUPS):
            acknowledged = int(log.read_text().split()[-1])
            report = backup(root, tmp_path / f"copy{number}")
            found = verify(tmp_path / f"copy{number}")
            assert found.num_behaviors >= len(sample.BEHAVIORS) + acknowledged
            assert report.last_sequence == found.num_behaviors - len(sample.BEHAVIORS)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
