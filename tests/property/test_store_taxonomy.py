"""The numbered taxonomy against dictionaries that are obviously right."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store.operations.verify.verify import find_taxonomy_problem
from store.taxonomy.numbering import BridgeRows, CategoryRows, ItemRows, build_taxonomy
from store.types import NO_ID


@st.composite
def forests(draw, min_size=0):
    """{category: parent or None}, ids in no order."""
    ids = draw(st.lists(st.integers(0, 60), unique=True, min_size=min_size, max_size=15))
    return {key: draw(st.sampled_from([None, *ids[:at]])) for at, key in enumerate(ids)}


@st.composite
def worlds(draw):
    ads, tv = draw(forests()), draw(forests())
    bridged = draw(st.lists(st.sampled_from(sorted(tv)), unique=True)) if tv and ads else []
    bridges = {key: draw(st.sampled_from(sorted(ads))) for key in bridged}
    items = draw(
        st.dictionaries(
            st.integers(0, 40), st.tuples(st.integers(0, 70), st.sampled_from(["", "tv", "radio"])), max_size=15
        )
    )
    return ads, tv, bridges, items


def numbered(world):
    ads, tv, bridges, items = world
    rows = [(key, parent, "") for key, parent in ads.items()] + [(key, parent, "tv") for key, parent in tv.items()]

    def u64(values):
        return np.array([NO_ID if value is None else value for value in values], np.uint64)

    return build_taxonomy(
        CategoryRows(
            category=u64(row[0] for row in rows),
            parent=u64(row[1] for row in rows),
            domain=np.array([row[2] for row in rows], object),
            where=str,
        ),
        BridgeRows(
            domain=np.array(["tv"] * len(bridges), object), category=u64(bridges), node=u64(bridges.values()), where=str
        ),
        ItemRows(
            item=u64(items),
            category=u64(category for category, _ in items.values()),
            domain=np.array([domain for _, domain in items.values()], object),
        ),
    )


def resolve(world, category, domain):
    """The ads' category that a category stands for, None = unmapped."""
    ads, tv, bridges, _ = world
    if domain != "tv" or not tv:
        return category if category in ads else None
    while category in tv:
        if category in bridges:
            return bridges[category]
        category = tv[category]
    return None


def chain(ads, category):
    out = []
    while category is not None:
        out.append(category)
        category = ads[category]
    return out


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_numbering_is_a_pre_order_of_every_category_and_item(world):
    ads, _, _, items = world
    taxonomy = numbered(world)
    assert find_taxonomy_problem(taxonomy) is None
    assert taxonomy.num_nodes == len(ads) + len(items)
    node_of = {key: int(taxonomy.category_node(np.array([key], np.uint64))[0]) for key in ads}
    inside = {key: set(range(node, int(taxonomy.end[node]))) for key, node in node_of.items()}
    for key, nodes in inside.items():
        below = {node_of[other] for other in ads if key in chain(ads, other)}
        for item, (category, domain) in items.items():
            if key in chain(ads, resolve(world, category, domain)):
                below.add(int(taxonomy.item_node(np.array([item], np.uint64))[0]))
        assert nodes == below


@given(worlds(), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_lookups_and_ancestors_equal_the_dictionaries(world, levels):
    ads, tv, _, items = world
    taxonomy = numbered(world)
    none = taxonomy.unmapped

    def node(category):
        return none if category is None else int(taxonomy.category_node(np.array([category], np.uint64))[0])

    for domain in ("", "tv", "radio"):
        asked = sorted(ads.keys() | tv.keys() | {99})
        found = taxonomy.category_node(np.array(asked, np.uint64), domain).tolist()
        assert found == [node(resolve(world, category, domain)) for category in asked]
    nodes = taxonomy.item_node(np.array([*items, 999], np.uint64))
    above = [resolve(world, *items[item]) for item in items]
    assert nodes[-1] == none
    assert taxonomy.id[nodes[:-1]].tolist() == list(items)
    assert taxonomy.category_of(nodes).tolist() == [NO_ID if key is None else key for key in [*above, None]]
    expected = [[int(at), *map(node, chain(ads, key))] for at, key in zip(nodes, above, strict=False)]
    expected += [[none]]
    expected += [[none, *map(node, chain(ads, key))] for key in ads]
    asked_nodes = np.concatenate((nodes, taxonomy.category_node(np.array(list(ads), np.uint64))))
    padded = [(row + [none] * levels)[:levels] for row in expected]
    assert taxonomy.ancestors(asked_nodes, levels).tolist() == padded
