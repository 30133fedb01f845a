"""`lookback-search compile`: afterwards nothing is left to compile for whoever serves, asks or builds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = ("-m", "search_stage", "compile")
CHECKOUT = Path(__file__).resolve().parents[3]

SEARCH_EVERYWHERE = ("-m", "pytest", "--log-cli-level=WARNING", "tests/integration/test_services.py")


def run(*arguments, cache=None):
    environment = dict(os.environ) if cache is None else {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_second_call_compiles_nothing():
    assert run(*COMPILE).returncode == 0
    again = run(*COMPILE)
    assert again.returncode == 0
    assert again.stdout.startswith("compiled, or found compiled, in ")
    assert "compiling kernels" not in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_services_compile_nothing_after_it(tmp_path):
    first = run(*COMPILE, cache=tmp_path)
    assert first.returncode == 0
    assert "compiling kernels" in first.stderr
    tests = run(*SEARCH_EVERYWHERE, cache=tmp_path)
    assert tests.returncode == 0, tests.stdout
    assert "compiling kernels" not in tests.stdout + tests.stderr
