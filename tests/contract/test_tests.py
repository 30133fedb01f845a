"""The house rules of the tests themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tests.worlds

TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_file_imports_a_test_file(path):
    """What two test files share stands in `tests/worlds`: a test that is moved or removed takes nothing with it."""
    imported = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    test_modules = {".".join(file.relative_to(TESTS.parent).with_suffix("").parts) for file in FILES}
    assert not test_modules.intersection(imported)


def test_the_table_of_worlds_names_every_world():
    rows = [line for line in (tests.worlds.__doc__ or "").splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(path.stem for path in (TESTS / "worlds").glob("[!_]*.py"))
