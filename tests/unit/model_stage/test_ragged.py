"""Ragged lists: equal lists found once, and rectangles that hold every row and query of theirs and nothing else."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks.ragged import buckets_of, cells, distinct_lists, from_cells, gather, lengths_to_offsets

few = st.integers(0, 2)


def test_lists_of_the_picture_in_the_docstring():
    columns = [torch.tensor([7, 8, 9, 7, 8])]
    found = distinct_lists(columns, torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 0]))
    assert found.pair_N.tolist() == [0, 1, 2]
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.list_B.tolist() == [0, 1, 0]
    assert found.candidate_L.tolist() == [0, 1]


@settings(max_examples=50)
@given(candidates=st.lists(st.tuples(st.integers(0, 1), st.lists(st.tuples(few, few), max_size=3)), max_size=8))
def test_distinct_lists_are_those_a_dictionary_finds(candidates):
    rows = [row for _, part in candidates for row in part]
    columns = [torch.tensor([row[at] for row in rows], dtype=torch.int64) for at in range(2)]
    lengths = torch.tensor([len(part) for _, part in candidates], dtype=torch.int64)
    candidate_M = torch.repeat_interleave(torch.arange(len(candidates)), lengths)
    requests = torch.tensor([request for request, _ in candidates], dtype=torch.int64)
    found = distinct_lists(columns, candidate_M, requests)

    known = {(request, tuple(part)): None for request, part in candidates}
    assert len(known) == len(found.offsets) - 1
    kept = [rows[pair] for pair in found.pair_N.tolist()]
    bounds = found.offsets.tolist()
    lists = [tuple(kept[start:end]) for start, end in itertools.pairwise(bounds)]
    assert [(int(requests[c]), part) for c, part in zip(found.candidate_L, lists, strict=True)] == list(known)
    assert [lists[number] for number in found.list_B.tolist()] == [tuple(part) for _, part in candidates]
    assert requests[found.candidate_L][found.list_B].tolist() == requests.tolist()


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    data=st.data(),
)
def test_buckets_hold_every_query_once_with_the_rows_of_its_list(lengths, data):
    offsets = lengths_to_offsets(torch.tensor(lengths))
    list_B = torch.tensor(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9)), dtype=torch.int64)
    seen = {}
    for bucket in buckets_of(offsets, list_B):
        for at, number in enumerate(bucket.list_L.tolist()):
            row_T, valid_T = bucket.rows.row_LT[at], bucket.rows.valid_LT[at]
            assert row_T[valid_T].tolist() == list(range(offsets[number], offsets[number + 1]))
            assert lengths[number] <= bucket.rows.width <= max(2 * lengths[number] - 1, 0)
            assert ((row_T >= offsets[number]) & (row_T < offsets[number + 1])).all()
            queries = bucket.queries.row_LT[at][bucket.queries.valid_LT[at]].tolist()
            assert bucket.queries.width < 2 * len(queries)
            assert queries == torch.where(list_B == number)[0].tolist()
            seen.update(dict.fromkeys(queries, number))
    assert [seen[query] for query in range(len(list_B))] == list_B.tolist()


def test_cells_come_back_to_their_rows_and_padding_does_not():
    layout = cells(torch.tensor([3, 0]), torch.tensor([1, 2]), 4)
    assert layout.row_LT.tolist() == [[3, 3, 3, 3], [0, 1, 1, 1]]
    values = torch.arange(4.0).requires_grad_()
    back = from_cells([(layout, gather(values, layout.row_LT))], 5)
    assert back.tolist() == [0.0, 1.0, 0.0, 3.0, 0.0]
    back.sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, 0.0, 1.0]
