"""Answers of search whose columns have the right lengths and still cannot be read: refused by the field's name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from serving.wire.search import ancestors_from_proto, ancestors_to_proto, result_from_proto, result_to_proto
from store.errors import InputError
from store.lists import Lists
from store.retrieval import Ancestors, BehaviorColumns, MatchStatistics, SearchResult
from store.types import Vocabulary

NUM_CANDIDATES, NUM_BEHAVIORS, NUM_PAIRS = 3, 2, 4
WRONG_OFFSETS = [
    ([0, 3, 2, 4], "must not descend"),
    ([0, -1, 2, 4], "must not descend"),
    ([0, 5, 4, 4], "must not descend"),
    ([0, 2, 3, 5], "must run from 0 to 4"),
    ([0, 2, 3, 3], "must run from 0 to 4"),
    ([1, 2, 3, 4], "must run from 0 to 4"),
]
"""Of lists over four values."""


def answer():
    return SearchResult(
        behaviors=BehaviorColumns(
            item=np.arange(NUM_BEHAVIORS, dtype=np.uint64),
            category=np.arange(NUM_BEHAVIORS, dtype=np.uint64),
            timestamp_ms=np.arange(NUM_BEHAVIORS),
            domain=np.zeros(NUM_BEHAVIORS, np.uint8),
            action=np.zeros(NUM_BEHAVIORS, np.uint8),
            scene=np.zeros(NUM_BEHAVIORS, np.uint16),
        ),
        vocabulary=Vocabulary(domains=("ads",), actions=("click",), scenes=("",)),
        offsets=np.array([0, 2, 3, NUM_PAIRS]),
        index=np.array([0, 1, 0, 1], np.int32),
        score=np.zeros(NUM_PAIRS, np.float32),
        match_level=np.zeros(NUM_PAIRS, np.uint8),
        source=np.ones(NUM_PAIRS, np.uint8),
        same_as=np.arange(NUM_CANDIDATES, dtype=np.int32),
        statistics=MatchStatistics(
            streams=(),
            within_ms=np.array([5, 7]),
            count=np.zeros((NUM_CANDIDATES, 1, 0), np.int32),
            age_ms=np.zeros((NUM_CANDIDATES, 1, 0), np.int64),
            oldest_age_ms=np.zeros((NUM_CANDIDATES, 1, 0), np.int64),
            within=np.zeros((NUM_CANDIDATES, 1, 0, 2), np.int32),
            total_count=np.zeros(0, np.int32),
            total_age_ms=np.zeros(0, np.int64),
            total_oldest_age_ms=np.zeros(0, np.int64),
            total_within=np.zeros((0, 2), np.int32),
            half_life_ms=np.empty(0, np.int64),
            similarity=np.empty((NUM_CANDIDATES, 0, 0), np.float32),
        ),
        candidate_category=np.zeros(NUM_CANDIDATES, np.uint64),
        candidate_fields={"tags": Lists(values=np.arange(4, dtype=np.uint64), offsets=np.array([0, 2, 3, 4]))},
        num_behaviors=NUM_BEHAVIORS,
        store_generation="s",
        index_generation="i",
    )


@pytest.mark.parametrize(("offsets", "message"), WRONG_OFFSETS)
def test_lists_of_pairs_are_checked(offsets, message):
    received = result_to_proto(answer())
    received.offsets.data = np.array(offsets, "<i8").tobytes()
    with pytest.raises(InputError, match=rf"^offsets: {message}"):
        result_from_proto(received, NUM_CANDIDATES)


@pytest.mark.parametrize(("offsets", "message"), WRONG_OFFSETS)
def test_lists_of_ancestors_are_checked(offsets, message):
    above = Lists(values=np.arange(4, dtype=np.uint64), offsets=np.array([0, 2, 3, 4]))
    received = ancestors_to_proto(Ancestors(above=above, store_generation="s"))
    received.offsets.data = np.array(offsets, "<i8").tobytes()
    with pytest.raises(InputError, match=rf"^offsets: {message}"):
        ancestors_from_proto(received, NUM_CANDIDATES)


@pytest.mark.parametrize(("offsets", "message"), WRONG_OFFSETS)
def test_lists_of_side_info_are_checked(offsets, message):
    received = result_to_proto(answer())
    received.candidate_fields[0].offsets.data = np.array(offsets, "<i8").tobytes()
    with pytest.raises(InputError, match=rf"^candidate_fields\['tags'\]\.offsets: {message}"):
        result_from_proto(received, NUM_CANDIDATES)


@pytest.mark.parametrize("row", [-1, NUM_BEHAVIORS])
def test_a_pair_of_no_behavior_is_refused(row):
    received = result_to_proto(answer())
    received.index.data = np.array([0, 1, 0, row], "<i4").tobytes()
    with pytest.raises(InputError, match=r"^index: "):
        result_from_proto(received, NUM_CANDIDATES)


@pytest.mark.parametrize("same_as", [[0, 2, 2], [0, 1, -1], [0, 0, 2], [0, 0, 1]])
def test_a_list_that_equals_none_before_it_is_refused(same_as):
    received = result_to_proto(answer())
    received.same_as.data = np.array(same_as, "<i4").tobytes()
    with pytest.raises(InputError, match=r"^same_as: "):
        result_from_proto(received, NUM_CANDIDATES)


def test_ages_that_do_not_ascend_are_refused():
    received = result_to_proto(answer())
    received.statistics.within_ms.data = np.array([7, 7], "<i8").tobytes()
    with pytest.raises(InputError, match=r"^statistics\.within_ms: must ascend, is \[7, 7\]"):
        result_from_proto(received, NUM_CANDIDATES)


def test_similarities_that_are_ids_are_refused():
    received = result_to_proto(answer())
    received.statistics.half_life_ms.data = np.array([0], "<i8").tobytes()
    received.statistics.similarity.values.MergeFrom(received.candidate_category)
    received.statistics.similarity.values.data = b""
    with pytest.raises(InputError, match=r"^statistics\.similarity: must be numbers"):
        result_from_proto(received, NUM_CANDIDATES)


def test_more_newest_behaviors_than_were_answered_are_refused():
    received = result_to_proto(answer())
    received.num_newest = NUM_BEHAVIORS + 1
    with pytest.raises(InputError, match=r"^num_newest: "):
        result_from_proto(received, NUM_CANDIDATES)


def arrays_of(value):
    """Every array of an answer, wherever it stands."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, Mapping):
        return [array for each in value.values() for array in arrays_of(each)]
    if dataclasses.is_dataclass(value):
        return [array for each in dataclasses.fields(value) for array in arrays_of(getattr(value, each.name))]
    return []


def test_what_was_written_into_a_message_is_a_copy():
    given = answer()
    message = result_to_proto(given)
    before = message.SerializeToString(deterministic=True)
    for array in arrays_of(given):
        array += 1
    assert message.SerializeToString(deterministic=True) == before


def test_what_is_read_from_a_message_cannot_be_changed():
    message = result_to_proto(answer())
    got = result_from_proto(message, NUM_CANDIDATES)
    arrays = arrays_of(got)
    assert len(arrays) == len(arrays_of(answer()))
    assert not any(array.flags.writeable for array in arrays)
    message.Clear()
    assert got.index.tolist() == answer().index.tolist()
