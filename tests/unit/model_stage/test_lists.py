"""The sequences of a batch: which rows they hold, who reads them, and what their attention is on the pairs."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model_stage.blocks.lists import newest_lists, retrieved_lists
from model_stage.blocks.ragged import lengths_to_offsets
from model_stage.blocks.sasrec import SASRecConfig

few = st.integers(0, 2)


def test_lists_of_the_picture_in_the_docstring():
    found = retrieved_lists(torch.tensor([0, 1, 0]), torch.tensor([7, 8, 9, 7, 8]), torch.tensor([0, 2, 3, 5]))
    assert found.behavior_N.tolist() == [7, 8, 9]
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.rank_N.tolist() == [2, 1, 1]
    assert found.list_B.tolist() == [0, 1, 0]
    assert found.candidate_L.tolist() == [0, 1]


@settings(max_examples=50)
@given(candidates=st.lists(st.lists(few, max_size=3), max_size=8))
def test_retrieved_lists_are_those_a_dictionary_finds(candidates):
    behavior_M = torch.tensor([row for part in candidates for row in part], dtype=torch.int32)
    pair_offsets = lengths_to_offsets(torch.tensor([len(part) for part in candidates], dtype=torch.int64))
    same_as = torch.tensor([candidates.index(part) for part in candidates], dtype=torch.int64)
    found = retrieved_lists(same_as, behavior_M, pair_offsets)
    known = list(dict.fromkeys(map(tuple, candidates)))
    lists = [tuple(found.behavior_N[a:b].tolist()) for a, b in itertools.pairwise(found.offsets.tolist())]
    assert lists == known
    assert [lists[number] for number in found.list_B.tolist()] == list(map(tuple, candidates))
    assert [tuple(candidates[at]) for at in found.candidate_L.tolist()] == known
    weight_P, rest_B = torch.rand(len(behavior_M)), torch.rand(len(candidates))
    for ours, theirs in zip(found.on_pairs(weight_P, rest_B), (weight_P, rest_B), strict=True):
        assert torch.equal(ours, theirs)


@st.composite
def unions(draw):
    """Per request: rows of U, how many of them are the newest, and the rows of each candidate's pairs."""
    requests = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(0, 5))
        pairs = st.lists(st.integers(0, size - 1), max_size=size, unique=True).map(sorted) if size else st.just([])
        requests.append((size, draw(st.integers(0, size)), draw(st.lists(pairs, max_size=3))))
    return requests


@settings(max_examples=100)
@given(requests=unions(), newest=st.integers(1, 4))
def test_attention_on_the_newest_rows_is_that_on_the_pairs_and_the_rest(requests, newest):
    starts = list(itertools.accumulate([size for size, _, _ in requests], initial=0))
    candidates = [(number, pairs) for number, (_, _, each) in enumerate(requests) for pairs in each]
    found = newest_lists(
        torch.tensor(starts[1:]),
        torch.tensor([count for _, count, _ in requests]),
        newest,
        torch.tensor([number for number, _ in candidates], dtype=torch.int64),
        torch.tensor([starts[number] + row for number, pairs in candidates for row in pairs], dtype=torch.int32),
        lengths_to_offsets(torch.tensor([len(pairs) for _, pairs in candidates], dtype=torch.int64)),
    )
    rows = [[*range(end - min(count, newest), end)] for end, (_, count, _) in zip(starts[1:], requests, strict=True)]
    assert found.behavior_N.tolist() == [row for each in rows for row in each]
    assert found.list_B.tolist() == [number for number, _ in candidates]
    for number, each in enumerate(requests):
        if each[2]:
            assert candidates[found.candidate_L[number]][0] == number

    weights = [torch.rand(len(rows[number])) for number, _ in candidates]
    row_weights = [torch.softmax(torch.rand(len(each), 2), dim=0) for each in rows]
    rest_B = torch.rand(len(candidates))
    weight_M, rest = found.on_pairs(torch.cat([*weights, torch.zeros(0)]), rest_B)
    weight_MJ, rest_BJ = found.rows_on_pairs(torch.cat(row_weights))
    expected, by_row = [], []
    for at, (number, pairs) in enumerate(candidates):
        place = {row: at for at, row in enumerate(rows[number])}
        mine = [place.get(starts[number] + row) for row in pairs]
        on_pairs = [0.0 if p is None else float(weights[at][p]) for p in mine]
        expected += on_pairs
        assert float(rest[at]) == pytest.approx(float(rest_B[at] + weights[at].sum()) - sum(on_pairs), abs=1e-5)
        by_row += [torch.zeros(2) if p is None else row_weights[number][p] for p in mine]
        there = [row_weights[number][p] for p in mine if p is not None]
        torch.testing.assert_close(rest_BJ[at], 1 - sum(there, torch.zeros(2)), atol=1e-6, rtol=0)
    torch.testing.assert_close(weight_M, torch.tensor(expected))
    torch.testing.assert_close(weight_MJ, torch.stack(by_row) if by_row else torch.zeros(0, 2))


def test_a_match_level_is_none_of_the_sequence():
    options = {"kind": "sasrec", "heads": 1, "layers": 1, "shared": [{"kind": "match_level", "levels": 3}]}
    assert SASRecConfig.model_validate({**options, "scope": "list"}).newest_read == 0
    with pytest.raises(ValidationError, match="shared: match_level is said of what a candidate retrieved"):
        SASRecConfig.model_validate({**options, "scope": "union"})
