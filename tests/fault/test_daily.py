"""The daily job, killed at random times: what is published serves after each, and the next whole run ends it."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from scripts.servers import CHECKOUT
from tests.worlds.daily import next_day, publish_first_day, serves, write_config


def test_a_job_that_is_killed_at_random_times(tmp_path, scale, seed):
    day = next_day(publish_first_day(tmp_path / "first"), tmp_path / "day")
    before, command = serves(day), [sys.executable, "-m", "scripts.daily", "--config", str(write_config(day))]
    whole = next_day(tmp_path / "first", tmp_path / "whole")
    started_s = time.monotonic()
    subprocess.run([*command[:-1], str(write_config(whole))], cwd=CHECKOUT, check=True)
    lasts_s, draw = time.monotonic() - started_s, np.random.default_rng(seed)
    killed = 0
    for _ in range(scale(1, 10)):
        process = subprocess.Popen(command, cwd=CHECKOUT)
        try:
            process.wait(timeout=float(draw.uniform(0.05, 1.0)) * lasts_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        serves(day)
    assert killed > 0 or scale(True, False)
    subprocess.run(command, cwd=CHECKOUT, check=True)
    assert serves(day) != before
