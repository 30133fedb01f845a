"""docs/architecture.md lists every folder, with the first line of its docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "store", "serving", "search_stage", "model_stage", "scripts", "tests")
GENERATED = "protos/lookback/"


def folders():
    """The rule of every folder that is a package, generated code aside."""
    for init in sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("__init__.py")):
        folder = f"{init.parent.relative_to(CHECKOUT)}/"
        if not folder.startswith(GENERATED):
            rule = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            yield folder, rule.split("\n")[0]


def test_the_page_lists_every_folder_with_its_rule():
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `[^`]+/` \| .+ \|$", page, flags=re.MULTILINE)
    rows = [f"| `{folder}` | {rule} |" for folder, rule in folders()]
    assert sorted(set(rows) - set(listed)) == []
    assert sorted(listed) == sorted(rows)


def test_every_folder_states_its_rule():
    assert [folder for folder, rule in folders() if len(rule) < 20] == []
