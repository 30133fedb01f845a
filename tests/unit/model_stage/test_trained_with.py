"""What a request lacks of what the bundle was trained with: named one by one, and nothing else is."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from model_stage.ranking.trained_with import TrainedWith, search_differences
from search_stage.config import SearchConfig
from store.types import NO_ID
from tests.worlds.bundles import SCHEMA, opened

BRANDS, PRICES = np.array([1, NO_ID], np.uint64), np.array([np.nan, 2], np.float32)
NO_BRANDS, NO_PRICES = np.full(2, NO_ID, np.uint64), np.full(2, np.nan, np.float32)
TRAINED = json.loads(SearchConfig().configuration)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    measures = ("count", "age", "within")
    schema = SCHEMA.model_copy(
        update={
            "match_levels": 2,
            "match_measures": measures,
            "match_within_days": (7.0,),
            "match_half_life_days": (None,),
        }
    )
    return opened(tmp_path_factory.mktemp("bundle"), schema=schema)


@pytest.fixture
def asked(bundle):
    """A request with all fields, and an answer with all statistics."""
    request, found = synthetic_request(bundle, sample_categories(bundle, 2), [5], [0])
    none = np.zeros((2, 2, 1, 1), np.int32)
    statistics = replace(
        found.statistics,
        streams=bundle.vocabularies.streams,
        count=none[..., 0],
        within_ms=np.array([7 * 86_400_000]),
        within=none,
        half_life_ms=np.array([0]),
    )
    found = replace(found, statistics=statistics, store_generation="S", index_generation="I")
    return replace(request, candidate_fields={"brand": BRANDS, "price": PRICES}), found


def test_nothing_is_missing_where_everything_is_there(bundle, asked):
    assert TrainedWith(bundle).missing(*asked) == ()


@pytest.mark.parametrize(
    ("given", "known", "missing"),
    [
        ({}, {}, ("brand", "price")),
        ({"brand": NO_BRANDS, "price": PRICES}, {}, ("brand",)),
        ({"brand": NO_BRANDS, "price": NO_PRICES}, {"brand": NO_BRANDS, "price": PRICES}, ("brand",)),
        ({"price": PRICES}, {"brand": BRANDS}, ()),
    ],
)
def test_a_field_is_missing_where_neither_request_nor_store_gives_it(bundle, asked, given, known, missing):
    request, found = asked
    found = replace(found, candidate_fields=known)
    assert TrainedWith(bundle).missing(replace(request, candidate_fields=given), found) == missing


@pytest.mark.parametrize(
    ("changes", "more", "missing"),
    [
        ({"streams": (("ads", "view"),)}, {}, ("statistics of ads/click",)),
        ({"count": np.zeros((2, 1, 1), np.int32)}, {}, ("statistics of level 1",)),
        ({"within_ms": np.array([8 * 86_400_000])}, {}, ("within7d",)),
        ({"half_life_ms": np.array([86_400_000])}, {}, ("similarity:no decay",)),
        ({}, {"index_generation": ""}, ("similarity:no decay",)),
        ({"streams": ()}, {"store_generation": ""}, ()),
    ],
)
def test_statistics_are_missing_where_search_does_not_answer_them(bundle, asked, changes, more, missing):
    request, found = asked
    found = replace(found, statistics=replace(found.statistics, **changes), **more)
    assert TrainedWith(bundle).missing(request, found) == missing


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        ({}, ()),
        ({"limits": {"max_candidates": 3}, "soft": {"engine": "numpy"}}, ()),
        ({"recent": {"top_k": 7}}, ("recent.top_k: trained with 20, is 7",)),
        (
            {"hard": {"domains": {"ads": {"actions": ["click", "buy"]}}}, "soft": {"top_k": 0}},
            ("hard.domains.ads: trained with null, is ", "soft.top_k: trained with 40, is 0"),
        ),
    ],
)
def test_the_keys_that_change_answers_are_compared(now, differences):
    found = search_differences(TRAINED, SearchConfig.model_validate(now).configuration)
    assert len(found) == len(differences)
    assert all(each.startswith(expected) for each, expected in zip(found, differences, strict=True))


def test_actions_of_a_policy_have_no_order():
    one, other = (
        SearchConfig.model_validate({"hard": {"default": {"actions": actions}}}).configuration
        for actions in (["click", "buy", "view"], ["view", "click", "buy"])
    )
    assert one == other


def test_a_difference_is_logged_when_it_comes_and_said_with_every_answer(bundle, asked, caplog):
    trained = replace(bundle, provenance=bundle.provenance.model_copy(update={"search": TRAINED}))
    compared, same = TrainedWith(trained), SearchConfig().configuration
    fewer = SearchConfig.model_validate({"soft": {"top_k": 3}}).configuration
    said = []
    with caplog.at_level(logging.WARNING):
        for configuration in (same, fewer, fewer, "", same):
            said.append(compared.differences(replace(asked[1], configuration=configuration)))
    differs = ("soft.top_k: trained with 40, is 3",)
    assert said == [(), differs, differs, (), ()]
    assert [record.message for record in caplog.records] == [
        f"search is not configured as where bundle {bundle.name} was trained: {differs[0]}"
    ]


def test_a_bundle_that_recorded_nothing_is_not_compared_and_nonsense_is_said():
    assert search_differences({}, SearchConfig().configuration) == ()
    assert search_differences(TRAINED, "{") == ("the search stage answers a configuration that is no JSON",)
