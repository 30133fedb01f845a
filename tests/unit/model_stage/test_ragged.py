"""Ragged lists: rectangles that hold every row and query of theirs and nothing else, and the way back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks.pairs import list_pairs
from model_stage.blocks.ragged import Layout, gather, lengths_to_offsets, span_rows


def test_spans_of_the_picture_in_the_docstring():
    assert span_rows(torch.tensor([5, 0]), torch.tensor([0, 2, 3])).tolist() == [5, 6, 0]


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    data=st.data(),
)
def test_buckets_hold_every_query_once_with_the_rows_of_its_list(lengths, data):
    offsets = lengths_to_offsets(torch.tensor(lengths))
    list_B = torch.tensor(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9)), dtype=torch.int64)
    seen = {}
    for bucket in Layout.of(offsets, list_B).buckets:
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


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=8), data=st.data())
def test_what_is_known_of_cells_comes_back_to_rows_queries_and_pairs_and_padding_does_not(lengths, data):
    offsets = lengths_to_offsets(torch.tensor(lengths))
    lists = st.integers(0, len(lengths) - 1)
    list_B = torch.tensor(data.draw(st.lists(lists, min_size=1, max_size=9)), dtype=torch.int64)
    layout, everyone = Layout.of(offsets, list_B), Layout.of_lists(offsets)
    row_N = torch.arange(sum(lengths))
    assert torch.equal(everyone.rows([bucket.rows.row_LT for bucket in everyone.buckets]), row_N)
    queries = [bucket.queries.row_LT for bucket in layout.buckets]
    assert torch.equal(layout.queries(queries), torch.arange(len(list_B)))
    more = 2 * ["no row"]  # cells beyond the rows, as of a query's own tokens
    both = [
        torch.nn.functional.pad(1000 * query_LC[:, :, None] + bucket.rows.row_LT[:, None], (0, len(more)), value=-1)
        for query_LC, bucket in zip(queries, layout.buckets, strict=True)
    ]
    row_M, candidate_M = list_pairs(offsets, list_B)
    assert torch.equal(layout.pairs(both), 1000 * candidate_M + row_M)


def test_the_first_cells_of_each_list_come_back_alone():
    layout = Layout.of_lists(torch.tensor([0, 3, 4, 4, 6]))
    firsts = [bucket.rows.row_LT[:, :1] for bucket in layout.buckets]
    assert layout.rows(firsts, torch.tensor([0, 1, 2, 2, 3])).tolist() == [0, 3, 4]


def test_gradients_go_to_rows_once():
    offsets, values = torch.tensor([0, 1, 4]), torch.arange(4.0).requires_grad_()
    layout = Layout.of_lists(offsets)
    layout.rows([gather(values, bucket.rows.row_LT) for bucket in layout.buckets]).sum().backward()
    assert values.grad.tolist() == [1.0] * 4
