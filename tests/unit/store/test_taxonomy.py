import dataclasses

import numpy as np
import pytest

from store.errors import CorruptGenerationError, InputError
from store.operations.verify.verify import find_taxonomy_problem
from store.taxonomy.numbering import BridgeRows, CategoryRows, ItemRows, build_taxonomy, no_bridges, no_items
from store.taxonomy.taxonomy import Taxonomy
from store.types import NO_ID


def u64(*ids):
    return np.array(ids, np.uint64)


def categories(*rows):
    """Rows (category, parent or None[, domain])."""
    return CategoryRows(
        category=u64(*(row[0] for row in rows)),
        parent=u64(*(NO_ID if row[1] is None else row[1] for row in rows)),
        domain=np.array([row[2] if len(row) > 2 else "" for row in rows], object),
        where=lambda row: f"taxonomy.csv:{row + 2}",
    )


def bridges(*rows):
    return BridgeRows(
        domain=np.array([row[0] for row in rows], object),
        category=u64(*(row[1] for row in rows)),
        node=u64(*(row[2] for row in rows)),
        where=lambda row: f"bridges.csv:{row + 2}",
    )


def items(*rows):
    return ItemRows(
        item=u64(*(row[0] for row in rows)),
        category=u64(*(row[1] for row in rows)),
        domain=np.array([row[2] if len(row) > 2 else "" for row in rows], object),
    )


@pytest.fixture
def taxonomy():
    """The picture of the `Taxonomy` docstring, and a domain's own tree: 100 <- 101, 102; 100 bridged to fruit."""
    return build_taxonomy(
        categories((20, None), (10, None), (11, 10), (100, None, "tv"), (101, 100, "tv"), (200, None, "tv")),
        bridges(("tv", 100, 11)),
        items((8, 11), (900, 10), (55, 404), (7, 101, "tv")),
    )


def test_numbering_as_drawn(taxonomy):
    assert taxonomy.id.tolist() == [10, 900, 11, 7, 8, 20, 55]
    assert taxonomy.parent.tolist() == [-1, 0, 0, 2, 2, -1, -1]
    assert taxonomy.depth.tolist() == [1, 2, 2, 3, 3, 1, 1]
    assert taxonomy.end.tolist() == [5, 2, 5, 4, 5, 6, 7]
    assert taxonomy.is_item.tolist() == [False, True, False, True, True, False, True]
    assert (taxonomy.num_nodes, taxonomy.num_tree_nodes, taxonomy.unmapped, taxonomy.max_depth) == (7, 6, 7, 3)
    assert find_taxonomy_problem(taxonomy) is None


def test_lookups(taxonomy):
    assert taxonomy.item_node(u64(7, 8, 55, 1, 7)).tolist() == [3, 4, 6, 7, 3]
    assert taxonomy.category_node(u64(10, 11, 20, 100, NO_ID)).tolist() == [0, 2, 5, 7, 7]
    assert taxonomy.category_node(u64(100, 101, 200, 10), "tv").tolist() == [2, 2, 7, 7]
    assert taxonomy.category_node(u64(10, 100), "radio").tolist() == [0, 7]


def test_category_of(taxonomy):
    nodes = np.array([0, 1, 2, 3, 5, 6, 7], np.uint32)
    assert taxonomy.category_of(nodes).tolist() == [10, 10, 11, 11, 20, NO_ID, NO_ID]


def test_ancestors(taxonomy):
    nodes = np.array([3, 2, 1, 6, 7], np.uint32)
    assert taxonomy.ancestors(nodes, 4).tolist() == [[3, 2, 0, 7], [7, 2, 0, 7], [1, 0, 7, 7], [6, 7, 7, 7], [7] * 4]
    assert taxonomy.ancestors(nodes, 0).shape == (5, 0)


def test_categories_above(taxonomy):
    above = taxonomy.categories_above(u64(11, 10, 8, NO_ID, 404, 11, 20))
    assert (above.values.tolist(), above.offsets.tolist()) == ([10, 10], [0, 1, 1, 1, 1, 1, 2, 2])
    assert above.values.dtype == np.uint64
    assert taxonomy.categories_above(u64()).offsets.tolist() == [0]
    deep = build_taxonomy(categories((1, None), (2, 1), (3, 2), (4, 3), (9, 1)), no_bridges(), no_items())
    above = deep.categories_above(u64(4, 9, 3, 5))
    assert [above[np.array([at])].values.tolist() for at in range(4)] == [[3, 2, 1], [1], [2, 1], []]


def test_a_taxonomy_of_nothing():
    empty = build_taxonomy(categories(), no_bridges(), no_items())
    assert (empty.num_nodes, empty.num_tree_nodes) == (0, 0)
    assert empty.item_node(u64(1)).tolist() == [0]
    assert empty.ancestors(np.array([0], np.uint32), 2).tolist() == [[0, 0]]
    only_items = build_taxonomy(categories(), no_bridges(), items((5, 1), (4, 1)))
    assert only_items.id.tolist() == [4, 5]
    assert only_items.num_tree_nodes == 0


def test_saved_arrays_load_the_same(taxonomy, tmp_path):
    taxonomy.save(tmp_path)
    loaded = Taxonomy.load(tmp_path, ["tv"])
    assert loaded.fingerprint() == taxonomy.fingerprint()
    assert loaded.category_node(u64(101), "tv").tolist() == [2]
    assert not loaded.parent.flags.writeable


def test_load_refuses_what_does_not_fit(taxonomy, tmp_path):
    taxonomy.save(tmp_path)
    with pytest.raises(CorruptGenerationError, match="domain offsets"):
        Taxonomy.load(tmp_path, [])
    np.save(tmp_path / "depth.npy", taxonomy.depth[:-1])
    with pytest.raises(CorruptGenerationError, match="differ in length"):
        Taxonomy.load(tmp_path, ["tv"])
    np.save(tmp_path / "depth.npy", taxonomy.depth.astype(np.int64))
    with pytest.raises(CorruptGenerationError, match=r"depth\.npy: holds int64"):
        Taxonomy.load(tmp_path, ["tv"])
    (tmp_path / "depth.npy").write_bytes(b"no array")
    with pytest.raises(CorruptGenerationError, match=r"depth\.npy: is no \.npy file"):
        Taxonomy.load(tmp_path, ["tv"])


def test_fingerprint_tells_numberings_apart(taxonomy):
    other = dataclasses.replace(taxonomy, id=taxonomy.id[::-1].copy())
    assert other.fingerprint() != taxonomy.fingerprint()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, None), (2, 3)], r"taxonomy\.csv:3: parent 3 of category 2 is no category"),
        ([(1, None), (2, 1), (1, 2)], r"taxonomy\.csv:4: category 1 stands already at taxonomy\.csv:2"),
        ([(1, 2), (2, 1)], "its own ancestor"),
        ([(5, 5)], r"taxonomy\.csv:2: category 5 is its own ancestor"),
        ([(9, None), (1, 2), (2, 3), (3, 2)], r"category (2|3) is its own ancestor"),
        ([(1, None), (2, 7, "tv")], r"taxonomy\.csv:3: parent 7"),
        ([(1, 2, "tv"), (2, None)], r"taxonomy\.csv:2: parent 2"),
        ([(1, None), *((k, k - 1) for k in range(2, 300))], r"deeper than 250 levels"),
    ],
)
def test_rows_that_are_no_tree(rows, message):
    with pytest.raises(InputError, match=message):
        build_taxonomy(categories(*rows), no_bridges(), no_items())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("tv", 100, 99)], r"bridges\.csv:2: node 99 is no category of the ads' tree"),
        ([("tv", 100, 10), ("tv", 99, 10)], r"bridges\.csv:3: 99 is no category of the tree of domain 'tv'"),
        ([("tv", 100, 10), ("tv", 101, 10), ("tv", 100, 10)], r"bridges\.csv:4: category 100 is bridged already"),
        ([("radio", 100, 10)], r"bridges\.csv:2: domain 'radio' has no tree"),
    ],
)
def test_bridges_that_lead_nowhere(rows, message):
    tree = categories((10, None), (100, None, "tv"), (101, 100, "tv"))
    with pytest.raises(InputError, match=message):
        build_taxonomy(tree, bridges(*rows), no_items())


@pytest.mark.parametrize(
    "change",
    [
        {"end": [5, 2, 6, 4, 5, 6, 7]},
        {"depth": [1, 2, 2, 3, 4, 1, 1]},
        {"parent": [-1, 0, 0, 4, 2, -1, -1]},
        {"is_item": [True, True, False, True, True, False, False]},
        {"id": [10, 900, 11, 8, 7, 20, 55]},
    ],
)
def test_damaged_numbers_are_found(taxonomy, change):
    ((name, values),) = change.items()
    damaged = dataclasses.replace(taxonomy, **{name: np.array(values, getattr(taxonomy, name).dtype)})
    assert find_taxonomy_problem(damaged) is not None
