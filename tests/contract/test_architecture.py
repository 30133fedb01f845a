"""docs/architecture.md follows what passes through the files, and lists every folder with its rule."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "store", "serving", "search_stage", "model_stage", "scripts", "tests")
PAGE = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
GENERATED = "protos/lookback/"


def folders():
    """The rule of every folder that is a package, generated code aside."""
    for init in sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("__init__.py")):
        folder = f"{init.parent.relative_to(CHECKOUT)}/"
        if not folder.startswith(GENERATED):
            rule = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            yield folder, rule.split("\n")[0]


def test_the_page_lists_every_folder_with_its_rule():
    listed = re.findall(r"^\| `[^`]+/` \| .+ \|$", PAGE, flags=re.MULTILINE)
    rows = [f"| `{folder}` | {rule} |" for folder, rule in folders()]
    assert sorted(set(rows) - set(listed)) == []
    assert sorted(listed) == sorted(rows)


def test_every_folder_states_its_rule():
    assert [folder for folder, rule in folders() if len(rule) < 20] == []


@pytest.mark.parametrize("life", ["A request's", "An event's", "A training example's", "An index's"])
def test_a_life_is_at_most_ten_steps_with_a_file_each(life):
    _, _, rest = PAGE.partition(f"## {life} life\n")
    steps = re.findall(r"^\d+\. (.+(?:\n {2,}.+)*)", rest.partition("\n## ")[0], flags=re.MULTILINE)
    assert 5 <= len(steps) <= 10
    assert [step for step in steps if not re.search(r"`\w+/[\w/]+(\.py|/)`", step)] == []


def test_a_module_has_at_most_300_lines():
    written = (path for package in PACKAGES[1:-1] for path in (CHECKOUT / package).rglob("*.py"))
    lengths = {str(path.relative_to(CHECKOUT)): len(path.read_text(encoding="utf-8").splitlines()) for path in written}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
