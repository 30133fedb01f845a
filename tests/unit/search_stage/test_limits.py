"""Limits of a request exactly: what they allow is allowed, one more is refused by the field's name."""

from __future__ import annotations

import pytest

from search_stage.config import SearchConfig
from search_stage.validate import check_answer_size, check_request
from store.errors import InputError
from store.retrieval import TopK
from tests.worlds.search import candidates_of, request_of

NOW_MS = 1_000_000
LIMITS = {"max_candidates": 3, "max_covers": 2, "max_categories": 2, "max_entries": 12, "clock_skew_s": 5.0}
CONFIG = SearchConfig.model_validate({"limits": LIMITS})


def request(num_candidates=1, covers=0, more=0, as_of_ms=NOW_MS, newest=0, **top_k):
    candidates = candidates_of(
        [1] * num_candidates,
        covers=[[7] * covers] + [[]] * (num_candidates - 1),
        more=[[7] * more] + [[]] * (num_candidates - 1),
    )
    return request_of(1, candidates, as_of_ms, TopK(**top_k), newest=newest)


@pytest.mark.parametrize(
    ("allowed", "refused", "message"),
    [
        ({"num_candidates": 3}, {"num_candidates": 4}, "candidates: must be 1 to 3, got 4"),
        ({"covers": 2}, {"covers": 3}, "candidates.covers: at most 2"),
        ({"more": 2}, {"more": 3}, "candidates.more_categories: at most 2"),
        ({"as_of_ms": NOW_MS + 5000}, {"as_of_ms": NOW_MS + 5001}, "as_of_ms: 1005001 is over 5 s ahead"),
        ({"as_of_ms": 1}, {"as_of_ms": 0}, "as_of_ms: must be positive"),
        ({"hard": 0}, {"hard": -1}, "top_k.hard: must be 0 or more"),
        ({"newest": 10**9}, {"newest": -1}, "newest: must be 0 or more"),
    ],
)
def test_a_limit_allows_itself_and_nothing_more(allowed, refused, message):
    check_request(request(**allowed), CONFIG.limits, NOW_MS)
    with pytest.raises(InputError, match=f"^{message}"):
        check_request(request(**refused), CONFIG.limits, NOW_MS)


def test_an_answer_may_have_as_many_entries_as_is_allowed():
    three = request(num_candidates=3, hard=2, soft=1, recent=1)
    check_answer_size(three, CONFIG, ["ads"], 100)
    with pytest.raises(InputError, match=r"^candidates: "):
        check_answer_size(request(num_candidates=3, hard=2, soft=2, recent=1), CONFIG, ["ads"], 100)
    check_answer_size(request(num_candidates=3, hard=2, soft=2, recent=1), CONFIG, ["ads"], 4)  # there are no more
