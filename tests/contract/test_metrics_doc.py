"""The operating pages list every metric of the two services, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def declared(*patterns):
    """The names of all metrics in some files."""
    files = [file for pattern in patterns for file in CHECKOUT.glob(pattern)]
    return set(re.findall(r'"(lookback_\w+)"', "".join(file.read_text(encoding="utf-8") for file in files)))


def documented(page):
    """The names of all metrics on a page, as they are declared."""
    text = (CHECKOUT / "docs" / "operations" / page).read_text(encoding="utf-8")
    exported = set(re.findall(r"`(lookback_\w+)", text))
    return {name.removesuffix("_total").replace("_serving_info", "_serving") for name in exported}


@pytest.mark.parametrize(
    ("page", "patterns"),
    [
        ("search.md", ("search_stage/serving/*.py", "serving/**/*.py")),
        ("ranking.md", ("model_stage/serving/*.py", "serving/**/*.py")),
    ],
)
def test_the_page_of_a_service_lists_its_metrics(page, patterns):
    assert documented(page) == declared(*patterns) != set()
