"""Markdown: lines of at most 120 columns, links that lead somewhere, files and modules that exist."""

from __future__ import annotations

import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for line in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (path := CHECKOUT / line).exists()
]
PAGES = [path for path in FILES if path.suffix == ".md" and path.parent != CHECKOUT / "docs" / "bench"]
CURRENT = [page for page in PAGES if page.parent.name != "adr" and page.name != "CHANGELOG.md"]
PACKAGES = ("protos", "store", "serving", "search_stage", "model_stage", "scripts", "tests")
ONLY_A_LINK = re.compile(r"\s*(?:[-*]\s+)?(?:!?\[[^\]]*\]\([^)]*\)|<?https?://\S+)[.,;:]?\s*")


def prose(text):
    """The lines of a page that are wrapped, with their numbers: none of code, tables, or a link alone."""
    fenced = False
    before = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        indented = line.startswith("    ") and (not before.strip() or before.startswith("    "))
        before = line
        if not fenced and not indented and not line.lstrip().startswith("|") and not ONLY_A_LINK.fullmatch(line):
            yield number, line


def named(text):
    """What stands in backticks, outside fenced code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_name(page):
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_lines_have_at_most_120_columns(page):
    long = [f"{number}: {line}" for number, line in prose(page.read_text(encoding="utf-8")) if len(line) > 120]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}#{anchor}"


@pytest.mark.parametrize("page", CURRENT, ids=page_name)
def test_files_and_modules_that_a_page_names_exist(page):
    tree = page.parent if page.parent.name.endswith(PACKAGES) else CHECKOUT
    names = {path.name for path in FILES if path.is_relative_to(tree) or path.parent == CHECKOUT}
    for name in named(page.read_text(encoding="utf-8")):
        if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", name):
            pkgutil.resolve_name(name)
        elif re.fullmatch(r"[\w-]+\.(py|md|proto)", name):
            assert name in names, name
        elif re.fullmatch(rf"({'|'.join(PACKAGES)}|docs)/[\w./-]*|[\w-]+/[\w/-]+\.(py|md|proto|yaml|toml)", name):
            assert (CHECKOUT / name).exists() or (page.parent / name).exists(), name


def test_the_rules_of_this_file_can_be_broken():
    text = "| a table |\n```\ncode `store/gone.py`\n```\n\n    code\nwords `store/errors.py`\n[link](x.md)\n"
    assert [number for number, _ in prose(text)] == [4, 5, 7]
    assert named(text) == ["store/errors.py"]
    assert anchors("# One `store`, two\n") == {"one-store-two"}
