"""docs/operations/metrics.md lists every metric of the two services, and no other; no page names one that is none."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = CHECKOUT / "docs" / "operations"
LIST = PAGES / "metrics.md"
TYPES = {"counter": "_total", "info": "_info"}
"""What the client library adds to a name of a type."""


def declared(*patterns):
    """The names of all metrics in some files."""
    files = [file for pattern in patterns for file in CHECKOUT.glob(pattern)]
    return set(re.findall(r'"(lookback_\w+)"', "".join(file.read_text(encoding="utf-8") for file in files)))


def rows():
    """Name as it is declared, name as it is shown, and which service has it."""
    section = LIST.read_text(encoding="utf-8").partition("## All metrics")[2].partition("\n## ")[0]
    for names, kind, where in re.findall(r"^\| (`lookback_.+?) \| (\w+) \| (\w+) \|", section, flags=re.MULTILINE):
        for name in re.findall(r"`(lookback_\w+)", names):
            ending = TYPES.get(kind, "")
            assert name.endswith(ending), name
            yield name.removesuffix(ending), name, where


def test_the_list_has_every_metric_and_says_who_has_it():
    of_both = declared("serving/**/*.py")
    of = {
        "search": declared("search_stage/serving/**/*.py") | of_both,
        "ranking": declared("model_stage/serving/**/*.py") | of_both,
    }
    for service, names in of.items():
        assert {name for name, _, where in rows() if where in (service, "both")} == names != set(), service


def test_pages_name_only_metrics_that_there_are():
    shown = {name for _, name, _ in rows()}
    for page in PAGES.glob("*.md"):
        named = set(re.findall(r"\blookback_\w+", page.read_text(encoding="utf-8").replace("lookback_model", "")))
        assert named - shown - {"lookback_"} == set(), page.name


def test_names_follow_the_rules():
    names = {name for _, name, _ in rows()}
    assert [name for name in names if re.search(r"_(ms|mib|percent|pct|count|sum|bucket)$", name)] == []
