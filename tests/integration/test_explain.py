"""Explanations: what each part adds equals what re-scoring by other means says; in process and over gRPC the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from model_stage.cli import app
from model_stage.cli.tables import attention_lines, contribution_table, explanation_table
from model_stage.ranking.ranker import Ranker
from model_stage.serving.convert import explanation_from_proto, explanation_to_proto
from model_stage.types import RankRequest
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.errors import InputError
from store.lists import Lists
from store.types import NO_ID, parse_id
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates

REQUEST = RankRequest(
    user=parse_id("u3"),
    as_of_ms=AS_OF_MS,
    candidates=candidates("a1", "c1", "a2"),
    context_fields={"hour": np.array([7], np.float32)},
)


class Altered:
    """A retriever whose answers are altered."""

    def __init__(self, retriever, alter):
        self.retriever, self.alter = retriever, alter

    def search(self, request, deadline=None, request_id=""):
        return self.alter(self.retriever.search(request, deadline, request_id))


@pytest.fixture(scope="module")
def ranker(world):
    with BehaviorStore.open(world.store) as store:
        yield Ranker.load(world.bundle, Searcher(store, IndexGeneration.open(world.index)))


def none_retrieved(found):
    empty = {name: getattr(found, name)[:0] for name in ("index", "score", "match_level", "source")}
    return replace(found, offsets=np.zeros_like(found.offsets), **empty)


def nothing_counted(found):
    statistics = found.statistics
    return replace(
        found,
        statistics=replace(
            statistics,
            count=np.zeros_like(statistics.count),
            age_ms=np.full_like(statistics.age_ms, -1),
            oldest_age_ms=np.full_like(statistics.oldest_age_ms, -1),
            within=np.zeros_like(statistics.within),
            total_count=np.zeros_like(statistics.total_count),
            total_age_ms=np.full_like(statistics.total_age_ms, -1),
            total_oldest_age_ms=np.full_like(statistics.total_oldest_age_ms, -1),
            total_within=np.zeros_like(statistics.total_within),
            similarity=np.full_like(statistics.similarity, np.nan),
        ),
    )


def without_numbers(found):
    return replace(found, candidate_fields={**found.candidate_fields, "price": np.full(3, np.nan, np.float32)})


def without_ids(found):
    none = np.full(3, NO_ID, np.uint64)
    return replace(
        found,
        candidate_fields={**found.candidate_fields, "brand": none, "shop": none},
        user_fields={**found.user_fields, "segment": np.array([NO_ID], np.uint64)},
    )


def without_buckets(found):
    return replace(found, candidate_fields={**found.candidate_fields, "weight": np.full(3, np.nan, np.float32)})


def without_lists(found):
    return replace(
        found,
        candidate_fields={**found.candidate_fields, "tags": Lists.empty(3, np.uint64)},
        user_fields={**found.user_fields, "likes": Lists.empty(1, np.uint64)},
    )


@pytest.mark.parametrize(
    ("part", "alter", "changes"),
    [
        ("behaviors", none_retrieved, {}),
        ("statistics", nothing_counted, {}),
        ("numeric", without_numbers, {"context_fields": {}}),
        ("categorical", without_ids, {}),
        ("bucketed", without_buckets, {}),
        ("multi_valued", without_lists, {}),
    ],
)
@pytest.mark.parametrize("candidate", [0, 2])
def test_a_contribution_is_the_logit_less_the_one_of_an_input_without_the_part(ranker, part, alter, changes, candidate):
    explained = ranker.explain(REQUEST, candidate)
    poorer = Ranker(ranker.bundle, Altered(ranker.retriever, alter)).explain(replace(REQUEST, **changes), candidate)
    found = {each.part: each.logit for each in explained.contributions}
    assert list(found) == ["behaviors", "statistics", "numeric", "categorical", "bucketed", "multi_valued"]
    expected = np.subtract(explained.logit, poorer.logit)
    np.testing.assert_allclose(found[part], expected, atol=1e-5)
    assert np.abs(expected).max() > 1e-4
    again = {each.part: each.logit for each in poorer.contributions}
    np.testing.assert_allclose(again[part], 0.0, atol=1e-6)


def test_behaviors_are_explained_with_their_side_info(world, ranker, rank_client):
    alone, served = ranker.explain(REQUEST, 2), rank_client.explain(REQUEST, 2)
    devices, stars = ("phone", None, "tv"), (None, 1.0, 2.0, 3.0)
    for explained in (alone, served):
        assert len(explained.behaviors) > 10
        for behavior in explained.behaviors:
            number = (AS_OF_MS - 3 - behavior.timestamp_ms) // DAY_MS - 1  # as the world was written
            assert dict(behavior.side_info) == {"stars": stars[number % 4], "device": devices[number % 3]}
            assert list(behavior.side_info) == ["stars", "device"]
            assert behavior.scene == ""
    assert len({tuple(behavior.side_info.values()) for behavior in alone.behaviors}) > 6


def test_ids_of_an_earlier_search_stage_are_explained_by_number(ranker):
    def unnamed(found):
        return replace(found, names=replace(found.names, behavior_fields={}))

    explained = Ranker(ranker.bundle, Altered(ranker.retriever, unnamed)).explain(REQUEST)
    assert {behavior.side_info["device"] for behavior in explained.behaviors} == {
        None,
        str(parse_id("phone")),
        str(parse_id("tv")),
    }


def test_scenes_and_odd_names_of_values_are_shown_as_they_are(ranker):
    explained = ranker.explain(REQUEST)
    first = replace(explained.behaviors[0], scene="front", side_info={"stars": 2.5, "device": "[bold]x"})
    table = explanation_table(replace(explained, behaviors=(first,)), scores=True)
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["stream"] == [f"{first.domain}/{first.action}/front"]
    assert (cells["stars"], cells["device"]) == (["2.5"], ["[bold]x"])
    assert "stars" not in [column.header for column in explanation_table(explained).columns]


def test_the_probability_is_the_calibrated_logit(ranker):
    explained = ranker.explain(REQUEST, 1)
    click, buy = explained.logit
    expected = 1 / (1 + np.exp(-np.array([1.5 * click - 0.25, buy])))
    np.testing.assert_allclose(explained.probability, expected, rtol=1e-5)
    np.testing.assert_allclose(ranker.rank(REQUEST).probability[1], expected, rtol=1e-5)


def test_one_target_alone_has_its_own_numbers(ranker):
    both, buy = ranker.explain(REQUEST, 0), ranker.explain(replace(REQUEST, targets=("buy",)), 0)
    assert buy.logit == both.logit[1:]
    assert [each.logit for each in buy.contributions] == [each.logit[1:] for each in both.contributions]
    assert buy.attention_sums == pytest.approx([1.0], abs=1e-5)


def test_both_services_say_of_contributions_what_one_process_says(ranker, rank_client):
    alone, served = ranker.explain(REQUEST, 2), rank_client.explain(REQUEST, 2)
    assert served.logit == pytest.approx(alone.logit, abs=1e-6)
    for ours, theirs in zip(served.contributions, alone.contributions, strict=True):
        assert ours.part == theirs.part
        assert ours.logit == pytest.approx(theirs.logit, abs=1e-6)
    assert served.versions == alone.versions
    assert served.versions.index_model == ranker.bundle.name


def test_an_answer_of_an_earlier_service_has_no_logit_and_is_shown(ranker):
    message = explanation_to_proto(ranker.explain(REQUEST))
    message.ClearField("logit")
    message.ClearField("contributions")
    explained = explanation_from_proto(message)
    assert (explained.logit, explained.contributions) == ((), ())
    assert contribution_table(explained).row_count == 2


def test_what_is_missing_to_one_is_said(ranker):
    explained = ranker.explain(REQUEST)
    assert [line.rpartition(", ")[2] for line in attention_lines(explained)] == ["sums to 1", "sums to 1"]
    less = tuple(replace(b, attention=(b.attention[0] / 2, b.attention[1])) for b in explained.behaviors)
    first, second = attention_lines(replace(explained, behaviors=less))
    assert "0.500000 over" in first
    assert "+0.500000 is on what is no behavior" in first
    assert second.endswith("sums to 1")
    assert attention_lines(replace(explained, behaviors=())) == ["no behavior was retrieved: there is no attention"]


def invoke(*arguments, command="explain"):
    return CliRunner().invoke(app, [command, *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_says_the_same_in_process_and_of_a_server(world, ranking, tmp_path):
    asked = ("--user", "u3", "--candidate", "a2", "--as-of", AS_OF_MS)
    roots = ("--store", world.store, "--index", world.index, "--bundle", world.bundle)
    here = invoke(*asked, *roots, "--json", tmp_path / "here.json", "--plot", tmp_path / "here.png")
    there = invoke(*asked, "--server", f"127.0.0.1:{ranking.port}", "--json", tmp_path / "there.json")
    assert (here.exit_code, there.exit_code) == (0, 0), here.output + there.output
    for text in ("Saw offer", "Hand saw", "attention click", "sums to 1", "behaviors", "statistics", "probability"):
        assert text in here.output
    for text in ("stars", "device", "phone"):
        assert text in here.output
    assert here.output == there.output
    left, right = (json.loads((tmp_path / name).read_text()) for name in ("here.json", "there.json"))
    assert left.keys() == right.keys()
    assert left["behaviors"][0]["timestamp_ms"] == right["behaviors"][0]["timestamp_ms"]
    side_info = [[behavior["side_info"] for behavior in each["behaviors"]] for each in (left, right)]
    assert side_info[0] == side_info[1]
    assert {each["device"] for each in side_info[0]} == {"phone", "tv", None}
    assert left["user"] == "u3"
    assert left["attention_sums"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert (tmp_path / "here.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_takes_fields_of_the_request(world, ranking, ranker, tmp_path):
    fields = tmp_path / "fields.json"
    content = {"candidate": {"price": 3, "tags": ["new"]}, "user": {"segment": "s1"}, "context": {"hour": 7}}
    fields.write_text(json.dumps(content), encoding="utf-8")
    asked = ("--user", "u3", "--candidate", "a2", "--as-of", AS_OF_MS, "--json", tmp_path / "out.json")
    roots = ("--store", world.store, "--index", world.index, "--bundle", world.bundle)
    expected = ranker.explain(
        replace(
            REQUEST,
            candidates=candidates("a2"),
            candidate_fields={
                "price": np.array([3], np.float32),
                "tags": Lists(values=np.array([parse_id("new")], np.uint64), offsets=np.array([0, 1])),
            },
            user_fields={"segment": np.array([parse_id("s1")], np.uint64)},
        )
    )
    for where in (roots, ("--server", f"127.0.0.1:{ranking.port}")):
        given = invoke(*asked, *where, "--fields", fields)
        assert given.exit_code == 0, given.output
        logit = json.loads((tmp_path / "out.json").read_text())["logit"]
        assert logit == pytest.approx(expected.logit, abs=1e-5)
        invoke(*asked, *where)
        assert json.loads((tmp_path / "out.json").read_text())["logit"] != pytest.approx(expected.logit, abs=1e-4)


def test_the_rank_command_says_of_each_candidate_what_the_file_says_of_the_candidate(ranking, ranker, tmp_path):
    fields = tmp_path / "fields.json"
    content = {"candidate": {"price": 3, "tags": ["new"]}, "user": {"segment": "s1"}, "context": {"hour": 7}}
    fields.write_text(json.dumps(content), encoding="utf-8")
    ads = ("a1", "c1", "a2")
    expected = ranker.rank(
        replace(
            REQUEST,
            candidate_fields={
                "price": np.full(3, 3, np.float32),
                "tags": Lists(values=np.full(3, parse_id("new"), np.uint64), offsets=np.arange(4)),
            },
            user_fields={"segment": np.array([parse_id("s1")], np.uint64)},
        )
    )
    asked = ("--user", "u3", "--as-of", AS_OF_MS, "--deadline-s", 60, "--server", f"127.0.0.1:{ranking.port}")
    given = invoke(*asked, *(f"--candidate={ad}" for ad in ads), "--fields", fields, command="rank")
    assert given.exit_code == 0, given.output
    for ad, chances in zip(ads, expected.probability, strict=True):
        numbers = r"\s*│\s*".join(f"{chance:.4f}" for chance in chances)
        assert re.search(rf"{ad}\s*│\s*{numbers}", given.output), given.output
    fields.write_text('{"context": {"minute": 7}}', encoding="utf-8")
    refused = invoke(*asked, "--candidate=a1", "--fields", fields, command="rank")
    assert str(refused.exception).startswith(f"{fields}: context_fields['minute']: no such context field")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"context": {"minute": 7}}, r"context_fields\['minute'\]: no such context field; this bundle has \['hour'\]"),
        ({"candidate": {"price": "leaf"}}, r"candidate_fields\['price'\]: uint64 values do not fit a numeric field"),
        (
            {"user": {"likes": list(map(str, range(257)))}},
            r"user_fields\['likes'\]: a list of 257 values, at most 256",
        ),
        ({"user": {"likes": [3]}}, r"user.likes: must be a finite number"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_by_file_and_key(world, ranking, tmp_path, content, message):
    fields = tmp_path / "fields.json"
    fields.write_text(json.dumps(content), encoding="utf-8")
    asked = ("--user", "u3", "--candidate", "a2", "--as-of", AS_OF_MS, "--fields", fields)
    roots = ("--store", world.store, "--index", world.index, "--bundle", world.bundle)
    for where in (roots, ("--server", f"127.0.0.1:{ranking.port}")):
        result = invoke(*asked, *where)
        assert isinstance(result.exception, InputError)
        assert re.match(f"{fields}: {message}", str(result.exception)), str(result.exception)


def test_what_is_no_fault_of_the_fields_does_not_name_their_file(world, tmp_path):
    fields = tmp_path / "fields.json"
    fields.write_text("{}", encoding="utf-8")
    late = ("--user", "u3", "--candidate", "a2", "--as-of", 10**15, "--fields", fields)
    result = invoke(*late, "--store", world.store, "--index", world.index, "--bundle", world.bundle)
    assert str(result.exception).startswith("as_of_ms: ")


def test_the_command_needs_a_server_or_roots(world):
    for some in ((), ("--store", world.store)):
        result = invoke("--user", "u3", "--candidate", "a2", *some)
        assert result.exit_code == 2
        assert "--store and --bundle" in result.output


def test_a_user_without_behaviors_is_explained_from_the_rest(ranker):
    explained = ranker.explain(replace(REQUEST, user=parse_id("nobody")))
    assert explained.behaviors == ()
    assert explained.attention_sums == (0.0, 0.0)
    found = {each.part: each.logit for each in explained.contributions}
    assert found["behaviors"] == pytest.approx((0.0, 0.0), abs=1e-6)
