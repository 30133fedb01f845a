"""The ranker over a retriever that the test holds: what it is given of the time, and what is said of its failure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from model_stage.encoding.batch import collate
from model_stage.errors import SearchUnavailableError
from model_stage.inspection.synthetic_request import AS_OF_MS, sample_categories, synthetic_request
from model_stage.ranking.ranker import RESERVE_PER_CANDIDATE_S, RESERVE_S, Ranker
from serving.deadline import Deadline
from store.errors import DeadlineExceededError, InputError
from store.lists import Lists
from store.retrieval import Ancestors
from tests.worlds.bundles import opened

AGES_MS, LEVELS = [5_000, 1_000], [0, 1]
NOW_S = AS_OF_MS / 1000
SKEW_S = 60


class Retriever:
    """Answers what it was made with, or fails; notes the deadlines it is given."""

    def __init__(self, found):
        self.found, self.error, self.deadlines = found, None, []

    def search(self, request, deadline=None, request_id=""):
        self.deadlines.append(deadline)
        if self.error is not None:
            raise self.error
        return self.found

    def ancestors(self, categories, deadline=None, request_id=""):
        return Ancestors(above=Lists.empty(len(categories), np.uint64), store_generation="")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def request_and_retriever(bundle):
    request, found = synthetic_request(bundle, sample_categories(bundle, 3), AGES_MS, LEVELS)
    return request, Retriever(found)


def ranker_of(bundle, retriever):
    return Ranker(bundle, retriever, max_clock_skew_s=SKEW_S, now_s=lambda: NOW_S)


def test_an_answer_without_history_says_so_and_only_that_one(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    ranker = ranker_of(bundle, retriever)
    whole = ranker.rank(request)
    assert (whole.degraded, whole.degraded_reason, whole.num_retrieved.tolist()) == (False, "", [2, 2, 2])
    retriever.error = SearchUnavailableError("search is down")
    poor = ranker.rank(request)
    assert (poor.degraded, poor.degraded_reason, poor.num_retrieved.tolist()) == (
        True,
        "unavailable: search is down",
        [0, 0, 0],
    )


def test_search_is_given_less_time_than_there_is(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    reserve_s = RESERVE_S + RESERVE_PER_CANDIDATE_S * len(request.candidates)
    for remaining_s in (0.2, 100.0):
        deadline = Deadline.after(remaining_s)
        with suppress(DeadlineExceededError):  # on a machine with other work
            ranker_of(bundle, retriever).rank(request, deadline)
        assert retriever.deadlines.pop().at_s <= deadline.at_s - reserve_s
    ranker_of(bundle, retriever).rank(request)
    assert retriever.deadlines == [None]


def test_nothing_is_scored_after_the_deadline(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    with pytest.raises(DeadlineExceededError):
        ranker_of(bundle, retriever).rank(request, Deadline.after(0))


def test_a_request_may_be_as_far_ahead_as_is_allowed(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    ranker = ranker_of(bundle, retriever)
    latest_ms = int((NOW_S + SKEW_S) * 1000)
    ranker.rank(replace(request, as_of_ms=latest_ms))
    with pytest.raises(InputError, match=r"^as_of_ms: "):
        ranker.rank(replace(request, as_of_ms=latest_ms + 1))


def test_pairs_have_the_age_and_the_place_of_their_behaviors(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    encoded = bundle.encoder.encode(request, retriever.found)
    assert sorted(set(encoded.interval_ms.tolist())) == sorted(AGES_MS)
    batch = collate([encoded, encoded])
    assert batch.interval_ms_U[batch.behavior_M].tolist() == AGES_MS * 6
    assert batch.match_level_M.tolist() == LEVELS * 6
    assert batch.rank_M.tolist() == [2, 1] * 6, "the newest behavior of a candidate has place 1"
    assert batch.candidate_M.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert batch.request_B.tolist() == [0, 0, 0, 1, 1, 1]


def test_never_matched_is_older_than_any_match(bundle, request_and_retriever):
    request, retriever = request_and_retriever
    at = [place for place, name in enumerate(bundle.encoder.dense_names) if "age" in name]
    never = bundle.encoder.encode(request, retriever.found).dense[:, at]
    assert at
    assert (never > np.log1p(365.0)).all()
