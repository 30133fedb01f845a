"""Compilation is logged once, and only when there is something to compile."""

import importlib.util
import logging

import numpy as np
import pytest

from store import compiled

SOURCE = """
from store.compiled import kernel

@kernel
def total(values):
    count = 0.0
    for value in values:
        count += value
    return count
"""


def made_up_kernel(folder):
    spec = importlib.util.spec_from_file_location("made_up_kernel", folder / "made_up_kernel.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.total


@pytest.fixture(autouse=True)
def first_process(monkeypatch):
    monkeypatch.setattr(compiled._compilation_log, "_has_logged", False)


def test_the_first_compilation_is_logged_and_no_other(tmp_path, caplog):
    (tmp_path / "made_up_kernel.py").write_text(SOURCE)
    caplog.set_level(logging.WARNING)
    total = made_up_kernel(tmp_path)
    assert total(np.ones(3)) == 3
    assert [record.message for record in caplog.records] == [
        "compiling kernels: a minute or two, the first time on a machine"
    ]
    assert total(np.ones(3, np.float32)) == 3  # compiled too, for another type
    assert len(caplog.records) == 1


def test_what_an_earlier_process_compiled_is_read_in_silence(tmp_path, caplog):
    (tmp_path / "made_up_kernel.py").write_text(SOURCE)
    made_up_kernel(tmp_path)(np.ones(3))
    compiled._compilation_log._has_logged = False
    caplog.clear()
    assert made_up_kernel(tmp_path)(np.ones(3)) == 3
    assert not caplog.records
