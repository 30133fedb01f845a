"""`lookback-model report`: the page says what was measured, loads nothing, and can be read on a phone."""

from __future__ import annotations

import json
from itertools import groupby

import pytest
from typer import BadParameter
from typer.testing import CliRunner

from model_stage.cli import app
from model_stage.training.pipeline import train_bundle
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.errors import StoreError
from tests.worlds.browser import chromium
from tests.worlds.training import recipe, write_impressions

PHONE = {"width": 360, "height": 740}
WIDE = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
"""What sticks out of the page at the right."""
SCHEMA = "{attention_dim: 4, representation_dim: 4, match_levels: 2}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set with its store, and two bundles: one after no training to speak of, one after some."""
    folder = tmp_path_factory.mktemp("report")
    data = write_impressions(folder / "data")
    with BehaviorStore.open(folder / "store") as opened, opened.snapshot() as snapshot:
        for name, epochs in (("short", 1), ("long", 6)):
            asked = recipe(folder / f"config-{name}", SCHEMA, epochs=epochs)
            train_bundle(asked, data, snapshot, Searcher(opened), folder / name)
    return folder


def report(made, *more: str):
    arguments = ["--data", made / "data", "--store", made / "store", "--bundle", made / "long", "--resamples", "100"]
    return CliRunner().invoke(app, ["report", *map(str, arguments), *map(str, more)], standalone_mode=False)


@pytest.fixture(scope="module")
def page(made):
    """The page of two bundles, and the same as JSON."""
    files = made / "page.html", made / "page.json"
    found = report(made, "--out", files[0], "--json", files[1], "--against", made / "short")
    assert found.exit_code == 0, found.output
    return files


def test_the_numbers_are_those_of_evaluate_and_slices_are_all_of_the_split(made, page):
    said = json.loads(page[1].read_text())
    arguments = ["--data", made / "data", "--store", made / "store", "--bundle", made / "long", "--json", "-"]
    evaluated = json.loads(CliRunner().invoke(app, ["evaluate", *map(str, arguments)]).output)
    ours = said["bundle"]
    assert {name: target["metrics"] for name, target in ours["targets"].items()} == evaluated["metrics"]
    click = ours["targets"]["click"]
    assert click["intervals"]["auc"]["low"] < click["metrics"]["auc"] < click["intervals"]["auc"]["high"]
    assert sum(each["rows"] for each in click["bins"]) == said["impressions"] == 200
    kinds = groupby(ours["slices"], key=lambda cut: cut["kind"])
    assert {kind: sum(cut["impressions"] for cut in cuts) for kind, cuts in kinds} == dict.fromkeys(
        ("history length", "age of the last match", "match level", "item", "user"), 200
    )
    assert {gain["target"] for gain in said["verdict"]["gains"]} == {"click"}, "nobody buys: there is nothing to judge"
    assert ours["cost"]["requests"] == 50
    assert ours["versions"]["store_generation"]
    text = page[0].read_text()
    for word in (
        said["verdict"]["outcome"],
        "Do not ship:",
        "reliability of buy",
        "learned: interval",
        "effective rank",
    ):
        assert word in text
    assert text.count("<svg") == len(ours["curves"]) + 2 * 2 + 2 + 2 * 3


def test_one_bundle_alone_has_no_verdict(made, tmp_path):
    found = report(made, "--out", tmp_path / "page.html", "--split", "validation")
    assert found.exit_code == 0, found.output
    text = (tmp_path / "page.html").read_text()
    assert "Verdict" not in text
    assert "validation split of data: 200 impressions of 10 users" in text


def test_the_page_loads_nothing_and_fits_a_phone(page):
    with chromium() as browser:
        for viewport, phone in ((PHONE, True), ({"width": 1280, "height": 900}, False)):
            tab = browser.new_context(viewport=viewport, is_mobile=phone).new_page()
            asked, complaints = [], []
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.on("console", lambda message, complaints=complaints: complaints.append(message.text))
            tab.on("pageerror", lambda error, complaints=complaints: complaints.append(str(error)))
            tab.goto(page[0].as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert (asked, complaints) == ([page[0].as_uri()], [])
            assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            assert tab.evaluate(f"{WIDE}.length") == 0
            assert tab.get_by_role("heading", name="Verdict").is_visible()
            assert tab.get_by_role("img", name="reliability of click").is_visible()
            smallest = (
                "Math.min(...[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height))"
            )
            assert tab.evaluate(smallest) >= 6, "words of pictures stay readable"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--against-index", "x"], "says nothing without --against"),
        (["--split", "tset"], "'tset' is none of train, validation, test"),
    ],
)
def test_what_is_asked_wrongly_is_refused(made, tmp_path, more, message):
    found = report(made, "--out", tmp_path / "page.html", *more)
    assert isinstance(found.exception, BadParameter)
    assert message in found.exception.format_message()


def test_a_file_that_cannot_be_written_is_refused_before_the_work(made, tmp_path):
    found = report(made, "--out", tmp_path)
    assert isinstance(found.exception, StoreError)
    assert "is a folder" in str(found.exception)
