"""The check that looks on and the ingest that stops agree on what is a taxonomy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import InputError
from store.operations.taxonomy_check.bridge_check import Place, join_trees
from store.operations.taxonomy_check.category_use import UseCounter
from store.operations.taxonomy_check.tree_check import TreeRows, check_tree, cycles, depths
from store.taxonomy.numbering import BridgeRows, CategoryRows, build_taxonomy, no_items
from store.taxonomy.tree import build_forest
from store.types import NO_ID

IDS = st.integers(0, 7)
ROWS = st.lists(st.tuples(IDS, st.one_of(st.none(), IDS), st.sampled_from(["", "content"])), max_size=12)
BRIDGES = st.lists(st.tuples(st.sampled_from(["content", "live"]), IDS, IDS), max_size=5)


def u64(values):
    return np.array([NO_ID if value is None else value for value in values], np.uint64)


def tree_rows(rows, domain=""):
    mine = [row for row in rows if row[2] == domain]
    return TreeRows(
        domain=domain,
        category=u64([row[0] for row in mine]),
        parent=u64([row[1] for row in mine]),
        name=np.full(len(mine), "", object),
        where=str,
        label=str,
    )


def has_error(findings):
    return any(finding.is_error for finding in findings)


@given(ROWS)
def test_a_tree_has_an_error_exactly_where_numbering_it_fails(rows):
    mine = tree_rows(rows)
    tree, findings = check_tree(mine)
    try:
        forest = build_forest(mine.category, mine.parent, str)
    except InputError:
        assert has_error(findings)
    else:
        assert not has_error(findings)
        assert np.array_equal(tree.id, forest.id)
        assert np.array_equal(tree.depth, forest.depth)
        assert sum(tree.shape().leaf_depths.values()) == int(np.count_nonzero(forest.end == forest.number + 1))


@given(ROWS, BRIDGES)
def test_trees_and_bridges_have_an_error_exactly_where_building_a_taxonomy_fails(rows, bridges):
    domain = np.array([row[0] for row in bridges], object)
    bridge_rows = BridgeRows(
        domain=domain, category=u64([row[1] for row in bridges]), node=u64([row[2] for row in bridges]), where=str
    )
    trees, findings = {}, []
    for word in {"", *(row[2] for row in rows)}:
        trees[word], found = check_tree(tree_rows(rows, word))
        findings += found
    joined, found = join_trees(trees, bridge_rows)
    categories = CategoryRows(
        category=u64([row[0] for row in rows]),
        parent=u64([row[1] for row in rows]),
        domain=np.array([row[2] for row in rows], object),
        where=str,
    )
    try:
        taxonomy = build_taxonomy(categories, bridge_rows, no_items())
    except InputError:
        assert has_error(findings + found)
        return
    assert not has_error(findings + found)
    wanted = np.arange(9, dtype=np.uint64)
    for word in ("", "content", "live"):
        number = joined.number_of(np.full(9, word, object))
        placed = joined.places(number, wanted) == Place.IN_TREE
        assert np.array_equal(placed, taxonomy.category_node(wanted, word or None) != taxonomy.unmapped)


@given(st.integers(0, 12).flatmap(lambda size: st.lists(st.integers(-1, size - 1), min_size=size, max_size=size)))
def test_depths_and_cycles_equal_a_walk(parents):
    parent = np.array(parents, np.int64)

    def walk(at):
        seen = []
        while at >= 0 and at not in seen:
            seen.append(at)
            at = parents[at]
        return seen, at

    for at, depth in enumerate(depths(parent).tolist()):
        seen, last = walk(at)
        assert depth == (len(seen) if last < 0 else 0)
    expected = {frozenset(seen[seen.index(last) :]) for seen, last in map(walk, range(len(parents))) if last >= 0}
    found = cycles(parent)
    assert {frozenset(loop) for loop in found} == expected
    assert len(found) == len(expected)
    for loop in found:
        assert loop[0] == min(loop)
        assert [parents[at] for at in loop] == [*loop[1:], loop[0]]


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), IDS, st.sampled_from([0, 1, NO_ID])), max_size=6), max_size=5))
@pytest.mark.parametrize("merge_often", [False, True])
def test_use_counts_every_triple(merge_often, parts):
    counter = UseCounter()
    expected: dict[tuple[int, int, int], int] = {}
    for part in parts:
        for row in part:
            expected[row] = expected.get(row, 0) + 1
        counter.add(
            np.array([row[0] for row in part], np.int64), u64([row[1] for row in part]), u64([row[2] for row in part])
        )
        if merge_often:
            counter.use(())
    use = counter.use(("a", "b", "c"))
    keys = zip(use.domain.tolist(), use.item.tolist(), use.category.tolist(), strict=True)
    assert dict(zip(keys, use.count.tolist(), strict=True)) == expected
    assert use.num_events == sum(map(len, parts))
