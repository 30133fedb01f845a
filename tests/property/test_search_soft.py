"""Soft search through FAISS equals plain sorting, and a score depends on its two vectors alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from search_stage.faiss_soft import FaissKeySearch
from search_stage.runs import NodeRuns
from search_stage.soft import KeyedRows, NumpyKeySearch, score_all, score_pairs, soft_search
from store.types import Section, UserColumns

QUICK = settings(deadline=None, max_examples=60)


def vectors(rng: np.random.Generator, count: int, dim: int, coarse: bool) -> np.ndarray:
    """Coarse vectors tie often and exactly, fine ones only where they are equal."""
    if coarse:
        return rng.integers(-2, 3, (count, dim)).astype(np.float32) / 2
    return rng.standard_normal((count, dim)).astype(np.float32)


def history_of(nodes: np.ndarray) -> UserColumns:
    """Gives a history of one stream; event t is of node `nodes[t]`, at time t."""
    order_of_rows = np.lexsort((np.arange(len(nodes)), nodes))
    order = np.empty(len(nodes), np.uint32)
    order[order_of_rows] = np.arange(len(nodes))
    return UserColumns(
        sections=(Section(domain=0, action=0, start=0, stop=len(nodes)),),
        node=nodes[order_of_rows].astype(np.uint32),
        timestamp_ms=order_of_rows.astype(np.int64),
        item=np.zeros(len(nodes), np.uint64),
        scene=np.zeros(len(nodes), np.uint16),
        rank=order_of_rows.astype(np.uint32),
        order=order,
    )


@QUICK
@given(
    seed=st.integers(0, 2**32),
    num_nodes=st.integers(1, 250),
    num_rows=st.integers(1, 600),
    num_queries=st.integers(1, 30),
    dim=st.integers(1, 40),
    top_k=st.integers(1, 40),
    coarse=st.booleans(),
)
@pytest.mark.parametrize("search", [FaissKeySearch, NumpyKeySearch])
def test_soft_search_equals_sorting(search, seed, num_nodes, num_rows, num_queries, dim, top_k, coarse):
    rng = np.random.default_rng(seed)
    nodes = rng.integers(0, num_nodes, num_rows)
    table = vectors(rng, num_nodes, dim, coarse)
    queries = vectors(rng, num_queries, dim, coarse)
    _, first, group = np.unique(table + 0.0, axis=0, return_index=True, return_inverse=True)
    rows = KeyedRows.of(NodeRuns.of(history_of(nodes)), first[group].astype(np.uint32))
    keys = table[rows.node]
    shortlist = (search(dim) if search is FaissKeySearch else search()).shortlist(queries, keys, top_k)
    event("a selection was needed" if len(keys) > top_k + 16 else "every key fits")
    start, rank = soft_search(shortlist, rows, num_queries, top_k)
    for query in range(num_queries):
        scores = [float(np.vecdot(queries[query], table[node])) for node in nodes]
        expected = sorted(range(num_rows), key=lambda at: (-scores[at], -at))[:top_k]
        assert rank[start[query] : start[query + 1]].tolist() == expected


@QUICK
@given(seed=st.integers(0, 2**32), count=st.integers(1, 200), dim=st.integers(1, 70), offset=st.integers(0, 3))
def test_a_score_does_not_depend_on_its_batch(seed, count, dim, offset):
    rng = np.random.default_rng(seed)
    left, right = vectors(rng, count, dim, False), vectors(rng, count, dim, False)
    together = score_pairs(left, right, np.arange(count), np.arange(count))
    # The same vectors at another alignment in memory.
    moved = np.empty(count * dim + offset, np.float32)[offset:].reshape(count, dim)
    moved[:] = right
    everything = score_all(left, moved)
    for at in range(count):
        alone = score_pairs(left[at : at + 1], moved[at : at + 1], np.array([0]), np.array([0]))
        assert alone[0] == together[at] == everything[at, at] == np.vecdot(left[at], right[at])


def test_scores_are_inner_products():
    left, right = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [-1, 0]], np.float32)
    assert score_all(left, right).tolist() == [[17, -1], [39, -3]]
    assert score_pairs(left, right, np.array([0, 1, 1]), np.array([1, 1, 0])).tolist() == [-1, -3, 39]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shortlist_that_rounding_could_spoil_is_not_trusted(sign):
    """The best keys differ in the last bit only: FAISS cannot be relied on to order them, `score_pairs` can."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(32).astype(np.float32)
    keys = np.tile(base, (400, 1))
    keys[np.arange(400), rng.integers(0, 32, 400)] += sign * np.float32(1e-6)
    queries = np.tile(base, (5, 1)) + rng.standard_normal((5, 32)).astype(np.float32) * np.float32(0.01)
    fast = FaissKeySearch(32).shortlist(queries, keys, 10)
    plain = NumpyKeySearch().shortlist(queries, keys, 10)
    assert set(zip(fast.query, fast.key, fast.score, strict=True)) >= set(
        zip(plain.query, plain.key, plain.score, strict=True)
    )
