from __future__ import annotations

import runpy
import sys

import pytest


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `python -m model_stage`; gives exit code, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lookback-model", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "250")
        code = 0
        try:
            runpy.run_module("model_stage", run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code or 0
        output = capsys.readouterr()
        return code, output.out, output.err

    return call
