"""The query command: who is meant, what is printed, and whether the explanation adds up."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from search_stage.cli import main
from search_stage.cli.explain import explain
from search_stage.cli.lookup import find_candidate, find_user
from store.behavior_store import BehaviorStore
from store.errors import InputError
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT
from store.types import parse_id
from tests.worlds.datasets import build_store
from tests.worlds.search import behavior, candidates_of, request_of, write_export

ANN = parse_id("ann")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("query")
    root = build_store(
        folder,
        taxonomy=[
            {"category": 1, "parent": None, "name": "Clothes"},
            {"category": 2, "parent": 1, "name": "Shoes"},
            {"category": 3, "parent": 1, "name": "Hats"},
        ],
        items=[
            {"item": 11, "category": 2, "name": "Boot"},
            {"item": 12, "category": 3, "name": "Cap"},
            {"item": 13, "category": 3, "name": "Cap"},
            {"item": 14, "category": 3, "name": "[bold]Hat"},
        ],
        behaviors=[
            behavior("ann", 11, 1_000, device="[b]tv", stars=2.5),
            behavior("ann", 14, 2_000, action="buy", scene="front"),
            behavior("ann", 12, 3_000, domain="content"),
            behavior("ann", 12, 4_000, domain="content"),
            behavior("ann", 99, 5_000, domain="content", device="77"),
            behavior("7", 11, 1_000),
        ],
    )
    export = write_export(folder / "model", {2: [1.0, 2.0], 3: [2.0, 1.0]}, {})
    with BehaviorStore.open(root) as store:
        build_index(export, store, folder / "index")
    (folder / "search.yaml").write_text(
        "hard: {default: {quota: 3, min_matches: 2, max_level: 2}}\nsoft: {top_k: 2}\nrecent: {top_k: 1}\n"
    )
    return folder


@pytest.fixture
def query(folder, monkeypatch, capsys):
    """Runs `lookback-search query` about ann; gives what it printed."""

    def run(*arguments):
        where = ("--store", folder / "store", "--index", folder / "index", "--config", folder)
        monkeypatch.setattr(sys, "argv", ["lookback-search", "query", *map(str, (*where, "--user", "ann", *arguments))])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as caught:
            main()
        output = capsys.readouterr()
        return output.out if not caught.value.code else output.err

    return run


def test_ids_and_names_are_found(folder):
    with BehaviorStore.open(folder / "store") as store, store.snapshot() as snapshot:
        assert find_user(snapshot, "ann") == ANN
        assert find_user(snapshot, "7") == 7
        assert find_user(snapshot, "nobody") == parse_id("nobody")
        assert find_candidate(snapshot, "11") == 11
        assert find_candidate(snapshot, "Boot") == 11
        assert find_candidate(snapshot, "99999") == 99999
        with pytest.raises(InputError, match=r"candidate: 2 have the name 'Cap'.*12, 13"):
            find_candidate(snapshot, "Cap")
        with pytest.raises(InputError, match="candidate: "):
            find_candidate(snapshot, "")


def test_the_explanation_adds_up(folder):
    config = SearchConfig.load(folder)
    with BehaviorStore.open(folder / "store") as store:
        index = IndexGeneration.open(folder / "index")
        request = request_of(ANN, candidates_of([12, 11, 777]), as_of_ms=10_000)
        result = Searcher(store, index, config).search(request)
        explanation = explain(store, index, config, request)
        without_index = explain(store, None, config, request)
    domains = {code: name for code, name in enumerate(result.vocabulary.domains)}
    for candidate, each in enumerate(explanation.candidates):
        part = slice(int(result.offsets[candidate]), int(result.offsets[candidate + 1]))
        source = result.source[part]
        found = [domains[code] for code in result.behaviors.domain[result.index[part]][(source & SOURCE_HARD) > 0]]
        assert {climb.domain: climb.used for climb in each.climbs if climb.used} == {
            name: found.count(name) for name in set(found)
        }
        assert [(place.used, place.alone) for place in each.places] == [
            (int(np.sum(source & bit > 0)), int(np.sum(source == bit)))
            for bit in (SOURCE_HARD, SOURCE_SOFT, SOURCE_RECENT)
        ]
        assert [place.asked for place in each.places] == [6, 2, 1]
        for climb in each.climbs:
            assert climb.used <= climb.quota
            assert list(climb.matches) == sorted(climb.matches)
    cap, boot, unknown = explanation.candidates
    assert {climb.domain: (climb.matches, climb.stop_level) for climb in cap.climbs} == {
        "ads": ((0, 1, 2), 2),
        "content": ((2, 2, 2), 0),
    }
    assert {climb.domain: (climb.matches, climb.stop_level) for climb in boot.climbs} == {
        "ads": ((1, 1, 2), 2),
        "content": ((0, 0, 2), 2),
    }
    assert [stream.count[:3] for stream in boot.streams if (stream.domain, stream.action) == ("ads", "click")] == [
        (1, 1, 1)
    ]
    assert all(sum(climb.matches) == 0 for climb in unknown.climbs)
    assert unknown.streams == ()
    assert without_index.candidates[0].places[1].asked == 0
    assert explanation.timings_ms.keys() == without_index.timings_ms.keys()
    assert all(spent > 0 for spent in explanation.timings_ms.values())


def test_explained_tables(query):
    out = query("--candidate", "Boot", "--candidate", "[bold]Hat", "--as-of", 10_000, "--explain")
    for text in (
        *("candidate Boot, category Shoes", "candidate [bold]Hat, category Hats", "hard+soft", "front", "unmapped"),
        *("1970-01-01 00:00:02", "8.0 seconds", "5.000", "0, 0, 2", "2 of 2", "found by it alone"),
        *("match statistics", "with soft search", "the fastest of 5", "5 behaviors before the as-of time"),
    ):
        assert text in out, text


def test_json_holds_what_the_tables_show(query):
    out = json.loads(query("--candidate", "Boot", "--as-of", 10_000, "--explain", "--json", "-"))
    assert (out["user"], out["num_behaviors"]) == (ANN, 5)
    (candidate,) = out["candidates"]
    assert (candidate["candidate"], candidate["id"], candidate["category"]) == ("Boot", 11, "Shoes")
    newest = candidate["behaviors"][0]
    assert (newest["item"], newest["category"], newest["level"], newest["found_by"]) == ("99", None, None, ["recent"])
    boot = candidate["behaviors"][-1]
    assert (boot["item"], boot["level"], boot["age_ms"], boot["score"]) == ("Boot", 0, 9_000, 5.0)
    assert sum(place["used"] for place in candidate["explanation"]["places"]) >= len(candidate["behaviors"])
    plain = json.loads(query("--candidate", "Boot", "--as-of", 10_000, "--json", "-"))
    assert "timings_ms" not in plain
    assert plain["candidates"][0]["behaviors"] == candidate["behaviors"]


def test_side_info_is_printed_where_it_is_asked_for(query):
    asked = ("--candidate", "Boot", "--as-of", 10_000, "--behavior-field", "stars", "--behavior-field", "device")
    out = query(*asked, "--explain")
    assert sum("1970-01-01" in line for line in out.splitlines()) == 5
    assert "[b]tv" in out
    assert " 2.5 " in out
    assert out.index("stars") < out.index("device") < out.index("found by")
    assert "with hard search" in out
    (candidate,) = json.loads(query(*asked, "--json", "-"))["candidates"]
    fields = {each["timestamp_ms"]: each["fields"] for each in candidate["behaviors"]}
    assert fields[1_000] == {"stars": 2.5, "device": "[b]tv"}
    assert fields[5_000] == {"stars": None, "device": "77"}
    assert list(fields[1_000]) == ["stars", "device"]
    assert {str(each) for at, each in fields.items() if 1_000 < at < 5_000} == {"{'stars': None, 'device': None}"}
    (plain,) = json.loads(query("--candidate", "Boot", "--as-of", 10_000, "--json", "-"))["candidates"]
    assert all("fields" not in each for each in plain["behaviors"])
    assert [{key: value for key, value in each.items() if key != "fields"} for each in candidate["behaviors"]] == (
        plain["behaviors"]
    )


def test_side_info_that_is_not_there_is_one_line(query):
    out = query("--candidate", "Boot", "--behavior-field", "os")
    assert "behavior_fields[0]: 'os' is no side-info field of behaviors" in out
    twice = query("--candidate", "Boot", "--behavior-field", "stars", "--behavior-field", "stars")
    assert "behavior_fields: a field is named twice" in twice


def test_a_name_of_several_is_one_line(query):
    assert "candidate: 2 have the name 'Cap'" in query("--candidate", "Cap")
