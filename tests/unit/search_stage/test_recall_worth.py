"""The worth of behaviors and NDCG: the fast code against the plain one, and against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, ndcg_score

from search_stage.study.association import count_cells, learn_association, mutual_information
from search_stage.study.groups import NO_GROUP, NUM_BUCKETS, CategoryGroups, bucket_of
from search_stage.study.rankings import ndcg
from search_stage.study.sample import LabelledRows
from tests.worlds import association_reference as reference
from tests.worlds.search import World, opened

NUM_GROUPS = 3
ITEM_GROUPS = np.array([0, 1, 2, NO_GROUP])
"""Group of the candidates 0 to 3."""


class FakeGroups:
    """Nodes are groups, the last one is unmapped; candidates are in `ITEM_GROUPS`."""

    of_node = np.array([0, 1, 2, NO_GROUP])

    def __len__(self):
        return NUM_GROUPS

    def of_items(self, items):
        return ITEM_GROUPS[items.astype(np.int64)]


class FakeSnapshot:
    """Histories by user: a node at each time 0, 1, 2 ..., rows in reverse order of time."""

    def __init__(self, histories):
        self._histories = histories

    def user(self, user):
        node = np.array(self._histories[user][::-1], np.uint32)
        time = np.arange(len(node))[::-1]
        return SimpleNamespace(columns=SimpleNamespace(node=node, timestamp_ms=time, order=np.arange(len(node))[::-1]))


@st.composite
def questions(draw):
    """Histories of some users, and labelled rows about them."""
    histories = draw(st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=4))
    row = st.tuples(st.integers(0, len(histories) - 1), st.integers(0, 13), st.integers(0, 3), st.booleans())
    rows = draw(st.lists(row, max_size=30))
    user, as_of_ms, item, label = np.array(rows, np.int64).reshape(-1, 4).T
    labelled = LabelledRows(
        user=user.astype(np.uint64), as_of_ms=as_of_ms, item=item.astype(np.uint64), label=label.astype(np.bool_)
    )
    return histories, labelled


@settings(deadline=None)
@given(questions())
def test_cells_and_their_worth_equal_the_plain_loops(drawn):
    histories, rows = drawn
    counts = count_cells(rows, FakeSnapshot(histories), FakeGroups(), lambda done: None)
    worth = mutual_information(counts.behaviors, counts.positives, counts.all_behaviors, counts.all_positives)
    against = counts.positives * counts.all_behaviors < counts.behaviors * counts.all_positives
    found = {}
    for at, key in enumerate(counts.key.tolist()):
        cell, group = divmod(key, NUM_GROUPS)
        signed = -worth[at] if against[at] else worth[at]
        found[(*divmod(cell, NUM_BUCKETS), group)] = (int(counts.behaviors[at]), float(signed))
    plain = reference.cell_information(
        (int(ITEM_GROUPS[item]), bool(label), [FakeGroups.of_node[node] for node in histories[user][:as_of_ms]])
        for user, as_of_ms, item, label in zip(
            rows.user.tolist(), rows.as_of_ms.tolist(), rows.item.tolist(), rows.label.tolist(), strict=True
        )
    )
    assert found.keys() == plain.keys()
    for cell, (count, signed) in plain.items():
        assert found[cell][0] == count
        # The two add the four terms in another order.
        assert found[cell][1] == pytest.approx(signed, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any))
def test_information_is_scikit_learns(table):
    both, x_only, y_only, neither = table
    ours = mutual_information(*(np.array([n]) for n in (both + x_only, both, sum(table), both + y_only)))
    oracle = mutual_info_score(None, None, contingency=np.array([[both, x_only], [y_only, neither]]))
    assert ours[0] == pytest.approx(max(oracle, 0), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=50).filter(lambda gains: max(gains) > 1e-6))
def test_ndcg_is_scikit_learns_and_the_plain_one(gains):
    ours = ndcg(np.array(gains), np.arange(len(gains)))
    ranking = -np.arange(len(gains))
    assert ours == pytest.approx(ndcg_score([gains], [ranking], k=20), rel=1e-9)
    assert ours == pytest.approx(reference.ndcg(gains, 20), rel=1e-9)


def test_ndcg_leaves_out_what_is_not_judged():
    worth = np.array([np.nan, 2.0, np.nan, 1.0])
    assert ndcg(worth, np.array([0, 3, 2, 1])) == pytest.approx(reference.ndcg([1.0, 2.0], 20))
    assert np.isnan(ndcg(np.array([np.nan, 0.0]), np.array([0, 1])))


def test_positions_are_bucketed_by_powers_of_two():
    assert bucket_of(np.array([0, 1, 2, 3, 6, 7, 2**20 - 1, 2**30])).tolist() == [0, 1, 1, 2, 2, 3, 20, 20]


def test_only_dense_cells_are_worth_anything():
    """Category 0 at the newest position goes with the label, 1 does not; the rare category 2 is not judged."""
    histories = [[0], [1], [2]]
    user = np.array([0] * 40 + [1] * 40 + [2])
    rows = LabelledRows(
        user=user.astype(np.uint64),
        as_of_ms=np.full(len(user), 5),
        item=np.zeros(len(user), np.uint64),
        label=user == 0,
    )
    association = learn_association(rows, FakeSnapshot(histories), FakeGroups(), lambda done: None)
    worth = association.worth_of(0, np.zeros(4, np.int64), np.array([0, 1, 2, NO_GROUP]))
    assert worth[0] == pytest.approx(np.log(2), rel=0.05)
    assert worth[1] == pytest.approx(-np.log(2), rel=0.1)
    assert np.isnan(worth[2:]).all()
    assert np.isnan(association.worth_of(NO_GROUP, np.zeros(1, np.int64), np.array([0]))).all()
    assert np.isnan(association.worth_of(0, np.array([1]), np.array([0]))).all()


def test_categories_are_grouped_by_their_ancestor():
    world = World(
        taxonomy=[
            {"category": 1, "parent": None},
            {"category": 2, "parent": 1},
            {"category": 3, "parent": 2},
            {"category": 4, "parent": None},
        ],
        items=[{"item": 11, "category": 3}, {"item": 12, "category": 4}, {"item": 13, "category": None}],
        behaviors=[],
    )
    ids = np.array([11, 12, 13, 99], np.uint64)
    with opened(world) as (store, _), store.snapshot() as snapshot:
        for depth, expected in ((1, [1, 4, None, None]), (2, [2, 4, None, None]), (9, [3, 4, None, None])):
            groups = CategoryGroups.of(snapshot.taxonomy, depth)
            found = groups.of_items(ids)
            assert [int(groups.category_ids[at]) if at != NO_GROUP else None for at in found] == expected
            assert (groups.of_categories(np.array([3], np.uint64)) == found[0]).all()
