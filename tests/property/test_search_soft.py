"""Every soft search equals plain sorting, and a score depends on its two vectors alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from search_stage.config import ENGINES
from search_stage.history import History
from search_stage.index.faiss_module import load_faiss
from search_stage.index.vectors import to_stored
from search_stage.soft.base import Keys, nearest_of_all, score_pairs, soft_search
from search_stage.soft.clusters import ClusterKeySearch
from search_stage.soft.engines import make_engine
from search_stage.soft.engines.faiss import calibrate
from search_stage.soft.score_kernels import score
from store.types import Section, UserColumns
from tests.worlds.soft import index_of, vectors

ON_CPU = [name for name in ENGINES if name != "gpu"]
QUICK = settings(deadline=None, max_examples=60)


def history_of(nodes: np.ndarray, sections: np.ndarray, as_of_ms: int) -> History:
    """Gives a history; event t is of node `nodes[t]` in section `sections[t]`, at time t."""
    row_of = np.lexsort((np.arange(len(nodes)), nodes, sections))
    order = np.empty(len(nodes), np.uint32)
    order[row_of] = np.arange(len(nodes))
    ends = np.cumsum(np.bincount(sections))
    columns = UserColumns(
        sections=tuple(
            Section(domain=0, action=at, start=int(start), stop=int(end))
            for at, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        ),
        node=nodes[row_of].astype(np.uint32),
        timestamp_ms=row_of.astype(np.int64),
        item=np.zeros(len(nodes), np.uint64),
        scene=np.zeros(len(nodes), np.uint16),
        rank=row_of.astype(np.uint32),
        order=order,
    )
    return History.before(columns, as_of_ms)


@QUICK
@given(
    seed=st.integers(0, 2**32),
    num_nodes=st.integers(1, 400),
    num_rows=st.integers(1, 900),
    num_queries=st.integers(1, 9),
    dim=st.integers(1, 40),
    top_k=st.integers(1, 40),
    coarse=st.booleans(),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)
@pytest.mark.parametrize("engine", ON_CPU)
def test_soft_search_equals_sorting(engine, seed, num_nodes, num_rows, num_queries, dim, top_k, coarse, dtype):
    rng = np.random.default_rng(seed)
    nodes, as_of_ms = rng.integers(0, num_nodes, num_rows), int(rng.integers(1, 2 * num_rows))
    index = index_of(to_stored(vectors(rng, num_nodes, dim, coarse), dtype))
    queries = vectors(rng, num_queries, dim, coarse)
    table = index.take(np.arange(num_nodes))
    _, first, group = np.unique(table, axis=0, return_index=True, return_inverse=True)
    history = history_of(nodes, rng.integers(0, 3, num_rows), as_of_ms)
    keys = Keys.of(history, first[group].astype(np.uint32))
    event("a selection was needed" if len(keys) > 2 * top_k + 64 else "every key fits")
    start, rank = soft_search(make_engine(engine, index), queries, keys, history, top_k)
    for at, query in enumerate(queries):
        scores = score_pairs(query[None], table[nodes]).tolist()
        expected = sorted(range(min(as_of_ms, num_rows)), key=lambda row: (-scores[row], -row))[:top_k]
        assert rank[start[at] : start[at + 1]].tolist() == sorted(expected)


@QUICK
@given(seed=st.integers(0, 2**32), count=st.integers(1, 50), dim=st.integers(1, 70), offset=st.integers(0, 3))
def test_a_score_does_not_depend_on_its_batch(seed, count, dim, offset):
    rng = np.random.default_rng(seed)
    left, right = vectors(rng, count, dim, False), vectors(rng, count, dim, False)
    together = score_pairs(left, right)
    # The same vectors at another alignment in memory.
    moved = np.empty(count * dim + offset, np.float32)[offset:].reshape(count, dim)
    moved[:] = right
    for at in range(count):
        assert score_pairs(left[at : at + 1], moved[at : at + 1])[0] == together[at] == score(left, at, moved, at)
    np.testing.assert_allclose(together, np.vecdot(left, right), rtol=1e-4, atol=1e-5)


def test_scores_are_inner_products():
    left, right = np.array([[1, 2], [3, 4], [3, 4]], np.float32), np.array([[5, 6], [-1, 0], [5, 6]], np.float32)
    assert score_pairs(left, right).tolist() == [17, -3, 39]


@pytest.mark.parametrize("engine", ON_CPU)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_a_proposal_that_rounding_could_spoil_is_not_trusted(engine, sign, num_queries):
    """The best keys differ in the last bit only: no fast sum can be relied on to order them, the score can."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(32).astype(np.float32)
    table = np.tile(base, (400, 1))
    table[np.arange(400), rng.integers(0, 32, 400)] += sign * np.float32(1e-6)
    queries = np.tile(base, (num_queries, 1)) + rng.standard_normal((num_queries, 32)).astype(np.float32) * np.float32(
        0.01
    )
    keys = Keys(row=np.arange(400, dtype=np.uint32), newest=np.arange(400, dtype=np.uint32))
    index = index_of(table)
    fast = make_engine(engine, index).nearest(queries, keys, 10)
    np.testing.assert_array_equal(fast, nearest_of_all(index, queries, keys, 10))


def test_sums_too_small_for_their_bound_are_not_lost():
    """Products underflow: the bound on relative rounding alone would be too small."""
    table = np.full((300, 8), 1e-25, np.float32)
    index, queries = index_of(table), np.full((2, 8), 1e-20, np.float32)
    keys = Keys(row=np.arange(300, dtype=np.uint32), newest=np.arange(300, dtype=np.uint32))
    fast = make_engine("scan", index).nearest(queries, keys, 10)
    np.testing.assert_array_equal(fast, nearest_of_all(index, queries, keys, 10))


@QUICK
@given(seed=st.integers(0, 2**32), num_queries=st.integers(1, 6), top_k=st.integers(1, 20), coarse=st.booleans())
def test_looking_into_all_clusters_is_exact(seed, num_queries, top_k, coarse):
    rng = np.random.default_rng(seed)
    index = clustered(rng, 500, 12, coarse)
    keys = Keys(row=np.sort(rng.choice(500, 300, replace=False)).astype(np.uint32), newest=permutation(rng, 300))
    queries, plain = vectors(rng, num_queries, 8, coarse), make_engine("numpy", index)
    expected = plain.nearest(queries, keys, top_k)
    np.testing.assert_array_equal(ClusterKeySearch(index, plain, 300, 1).nearest(queries, keys, top_k), expected)
    np.testing.assert_array_equal(ClusterKeySearch(index, plain, 301, 12).nearest(queries, keys, top_k), expected)


@QUICK
@given(seed=st.integers(0, 2**32), probe_one_in=st.integers(1, 12))
def test_an_approximate_answer_does_not_depend_on_the_other_queries(seed, probe_one_in):
    rng = np.random.default_rng(seed)
    index = clustered(rng, 500, 12, False)
    keys = Keys(row=np.arange(500, dtype=np.uint32), newest=permutation(rng, 500))
    search = ClusterKeySearch(index, make_engine("numpy", index), 1, probe_one_in)
    queries = vectors(rng, 5, 8, False)
    queries[0] = 0
    together = search.nearest(queries, keys, 10)
    for at in range(5):
        np.testing.assert_array_equal(search.nearest(queries[at : at + 1], keys, 10)[0], together[at])
    np.testing.assert_array_equal(together[0], nearest_of_all(index, queries[:1], keys, 10)[0])


def test_looking_into_the_nearest_clusters_finds_most():
    """A dial: of vectors around their centroids a quarter of the clusters holds nearly all, of noise it does not."""
    rng = np.random.default_rng(0)
    recalls = []
    for spread in (0.1, 3.0):
        index = clustered(rng, 4_000, 16, False, spread)
        keys = Keys(row=np.arange(4_000, dtype=np.uint32), newest=permutation(rng, 4_000))
        queries, plain = index.take(np.arange(0, 4_000, 40)), make_engine("numpy", index)
        found = ClusterKeySearch(index, plain, 1, 4).nearest(queries, keys, 20)
        expected = plain.nearest(queries, keys, 20)
        recalls.append(np.mean([len(np.intersect1d(*pair)) / 20 for pair in zip(found, expected, strict=True)]))
    assert recalls[0] > 0.99
    assert recalls[1] < 0.9


def permutation(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.permutation(count).astype(np.uint32)


def clustered(
    rng: np.random.Generator, count: int, num_clusters: int, coarse: bool, spread: float = 1.0
) -> SimpleNamespace:
    """Gives an index with clusters, each of vectors around one of some centroids."""
    centroids = vectors(rng, num_clusters, 8, coarse)
    cluster = rng.integers(0, num_clusters, count).astype(np.uint16)
    index = index_of(centroids[cluster] + np.float32(spread) * vectors(rng, count, 8, coarse))
    index.centroids, index.cluster = centroids, cluster
    return index


def test_faiss_is_told_from_how_many_queries_on_to_multiply():
    faiss = load_faiss()
    first = calibrate(faiss, 32)
    assert faiss.cvar.distance_compute_blas_threshold == first * 32
    assert 1 <= first <= 17
