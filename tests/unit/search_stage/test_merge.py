"""Three sources merged into one list, by hand."""

from __future__ import annotations

import numpy as np

from search_stage.hard.hard import HardMatches
from search_stage.merge import SoftMatches, first_equal, merge
from store.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

HARD, SOFT, RECENT = SOURCE_HARD, SOURCE_SOFT, SOURCE_RECENT
QUESTIONS = HardMatches(
    question=np.array([0, 0, 1]), start=np.array([0, 2, 2]), rank=np.array([1, 4]), level=np.array([0, 2])
)
QUERIES = SoftMatches(query=np.array([0, 1, 1]), start=np.array([0, 2, 3]), rank=np.array([0, 4, 2]))
NUM_ROWS = 6


def lists(num_recent):
    merged = merge(QUESTIONS, QUERIES, NUM_ROWS, num_recent)
    rows = list(zip(merged.rank.tolist(), merged.level.tolist(), merged.source.tolist(), strict=True))
    starts = merged.start.tolist()
    return [rows[starts[at] : starts[at + 1]] for at in merged.list_of.tolist()]


def test_a_behavior_of_several_sources_stands_once_with_all_of_them():
    assert lists(num_recent=2)[0] == [
        (0, NO_LEVEL, SOFT),
        (1, 0, HARD),
        (4, 2, HARD | SOFT | RECENT),
        (5, NO_LEVEL, RECENT),
    ]


def test_candidates_share_a_list_only_where_they_ask_and_search_the_same():
    assert lists(num_recent=0) == [
        [(0, NO_LEVEL, SOFT), (1, 0, HARD), (4, 2, HARD | SOFT)],
        [(1, 0, HARD), (2, NO_LEVEL, SOFT), (4, 2, HARD)],
        [(2, NO_LEVEL, SOFT)],
    ]


def test_more_recent_than_there_are_gives_all():
    assert [rank for rank, *_ in lists(num_recent=100)[2]] == list(range(NUM_ROWS))


def test_lists_are_equal_only_in_everything():
    start = np.array([0, 2, 4, 6, 6, 8, 10, 10])
    rank = np.array([1, 4, 1, 4, 1, 4, 1, 4, 1, 5])
    level = np.array([0, 2, 0, 2, 0, 2, 0, 3, 0, 2], np.uint8)
    source = np.array([1, 1, 1, 3, 1, 1, 1, 1, 1, 1], np.uint8)
    score = np.array([7, 7, 7, 7, 7, 8, 7, 7, 7, 7], np.uint32)
    assert first_equal(start, rank, level, source, score).tolist() == [0, 1, 2, 3, 4, 5, 3]
    same = np.zeros(10, np.int64)
    equal = first_equal(start, same, same.astype(np.uint8), same.astype(np.uint8), same.astype(np.uint32))
    assert equal.tolist() == [0, 0, 0, 3, 0, 0, 3]
