"""The runner of wrong changes: what it calls red, what it does not, and what it refuses to run."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from scripts.checks.mutate import ROOT, Mutation, MutationListError, judge, load_mutations

BIGGER = Mutation(
    id="bigger", file="part.py", find="a > b", replace="a >= b", why="ties win", tests=("test_part.py::test_tie",)
)
ROW = """
[[mutation]]
id = "bigger"
file = "part.py"
find = "a > b"
replace = "a >= b"
why = "ties win"
tests = ["test_part.py"]
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-q"\n')
    (tmp_path / "part.py").write_text("def wins(a, b):\n    return a > b\n")
    (tmp_path / "test_part.py").write_text(
        "from part import wins\n\n\ndef test_tie():\n    assert not wins(1, 1)\n\n\ndef test_clear():\n"
        "    assert wins(2, 1)\n"
    )
    (tmp_path / "tests" / "mutations").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("mutation", "outcome"),
    [
        (BIGGER, "red"),
        (replace(BIGGER, tests=("test_part.py::test_clear",)), "green"),
        (replace(BIGGER, replace="a >"), "broken"),  # a change that does not even run proves nothing
    ],
)
def test_a_change_is_judged_by_the_tests_it_names_in_a_copy(checkout, mutation, outcome):
    before = (checkout / "part.py").read_text()
    assert judge(mutation, checkout)[0] == outcome
    assert (checkout / "part.py").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a > b", "a < b", "`find` stands 0 times"),
        ("a > b", "a", "`find` stands 2 times"),
        ("a >= b", "a > b", "nothing is replaced"),
        ("test_part.py", "test_other.py", "no such test file"),
        ('["test_part.py"]', "[]", "names no test"),
        ("why", "because", "because"),
        ("tests", "test", "tests"),
        (ROW, ROW + ROW, "2 times"),
        ("part.py", "missing.py", "missing.py"),
    ],
)
def test_a_list_that_does_not_fit_the_code_is_refused(checkout, old, new, message):
    path = checkout / "tests" / "mutations" / "list.toml"
    path.write_text(ROW)
    assert [mutation.id for mutation in load_mutations(checkout)] == ["bigger"]
    path.write_text(ROW.replace(old, new, 1))
    with pytest.raises(MutationListError, match=message):
        load_mutations(checkout)


def test_the_committed_list_fits_the_code():
    """Whoever changes a line that the list changes, mends the list: `make mutate` must not rot between releases."""
    assert load_mutations(ROOT)
