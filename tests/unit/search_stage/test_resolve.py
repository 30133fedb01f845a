"""What ads cover, prepared once for a generation, against one list at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import search_stage.resolve
from search_stage.resolve import CandidateResolver, CoveredProducts, rows_of
from search_stage.resolve_kernels import find_ids, nodes_of
from store.base.tables import CoverTable
from store.files.arrays import find_sorted
from store.retrieval import Candidates
from tests.worlds.search import World, behavior, candidates_of, opened

ITEMS = range(1, 41)
"""Items 1 to 20 are known; item n is an ad that may cover others."""


@pytest.fixture(scope="module")
def taxonomy():
    world = World(
        taxonomy=[{"category": at, "parent": at - 1 or None} for at in range(1, 4)],
        items=[{"item": item, "category": 1 + item % 3} for item in range(1, 21)],
        behaviors=[behavior(1, 1, 1)],
    )
    with opened(world) as (store, _), store.snapshot() as snapshot:
        yield snapshot.taxonomy


def plain(taxonomy, ad, products):
    own = int(taxonomy.item_node(np.array([ad], np.uint64))[0])
    nodes = set(taxonomy.item_node(np.array(sorted(products), np.uint64)).tolist())
    return sorted(nodes - {own, taxonomy.unmapped})


def covers_of(lists):
    return CoverTable(
        ids=np.array(sorted(lists), np.uint64),
        offsets=np.cumsum([0, *(len(lists[ad]) for ad in sorted(lists))]),
        values=np.array([item for ad in sorted(lists) for item in sorted(lists[ad])], np.uint64),
    )


lists_of_ads = st.dictionaries(st.sampled_from(ITEMS), st.sets(st.sampled_from(ITEMS), max_size=12), max_size=12)


@settings(deadline=None)
@given(lists=lists_of_ads, at_once=st.integers(1, 40))
def test_products_are_prepared_part_by_part_as_one_by_one(taxonomy, lists, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_stage.resolve, "_PRODUCTS_AT_ONCE", at_once)
        covered = CoveredProducts.of(covers_of(lists), taxonomy)
    assert covered.ad.tolist() == sorted(lists)
    found = [covered.node[slice(*covered.offsets[at : at + 2])].tolist() for at in range(len(lists))]
    assert found == [plain(taxonomy, ad, lists[ad]) for ad in sorted(lists)]
    assert covered.node.dtype == np.uint32


@settings(deadline=None)
@given(lists=lists_of_ads, data=st.data())
def test_a_list_of_the_request_replaces_that_of_the_items_table(taxonomy, lists, data):
    resolver = CandidateResolver(taxonomy=taxonomy, covered=CoveredProducts.of(covers_of(lists), taxonomy))
    ads = data.draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6))
    given_lists = [data.draw(st.lists(st.sampled_from(ITEMS), max_size=4)) for _ in ads]
    found = resolver.resolve(candidates_of(ads, covers=given_lists))
    for at, ad in enumerate(ads):
        products = found.product[found.product_start[at] : found.product_stop[at]]
        assert products.tolist() == plain(taxonomy, ad, given_lists[at] or lists.get(ad, ()))


def test_products_of_the_items_table_are_not_copied(taxonomy):
    covered = CoveredProducts.of(covers_of({1: {2, 3}, 4: {5}}), taxonomy)
    resolver = CandidateResolver(taxonomy=taxonomy, covered=covered)
    assert resolver.resolve(candidates_of([1, 2, 4])).product is covered.node


@settings(deadline=None)
@given(
    ids=st.sets(st.integers(0, 900) | st.integers(2**64 - 9, 2**64 - 2), max_size=400).map(sorted),
    wanted=st.lists(st.integers(0, 900) | st.integers(2**64 - 9, 2**64 - 1), max_size=600),
)
def test_ids_are_found_as_one_by_one(ids, wanted):
    ids, wanted = np.array(ids, np.uint64), np.array(wanted, np.uint64)
    place, found = rows_of(ids, wanted)
    expected, is_there = find_sorted(ids, wanted)
    np.testing.assert_array_equal(found, is_there)
    np.testing.assert_array_equal(place[found], expected[is_there])
    assert (place < max(len(ids), 1)).all()


def test_ids_of_a_caller_may_lie_in_any_way(taxonomy):
    """A kernel would be compiled anew for them, or read what is not there."""
    resolver = CandidateResolver(taxonomy=taxonomy, covered=CoveredProducts.of(covers_of({}), taxonomy))
    ads = np.array([3, 5, 99], np.uint64)
    unaligned = np.frombuffer(b"x" + ads.tobytes(), np.uint8)[1:].view(np.uint64)
    assert not unaligned.flags.aligned
    resolver.resolve(Candidates.by_id(ads))
    kinds = len(find_ids.signatures), len(nodes_of.signatures)
    for given_ads in (ads, unaligned, np.repeat(ads, 2)[::2]):
        found = resolver.resolve(Candidates.by_id(given_ads))
        assert found.item_node.tolist() == taxonomy.item_node(ads).tolist()
    assert (len(find_ids.signatures), len(nodes_of.signatures)) == kinds


@settings(deadline=None)
@given(items=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=30))
def test_an_ad_is_searched_under_its_category(taxonomy, items):
    resolver = CandidateResolver(taxonomy=taxonomy, covered=CoveredProducts.of(covers_of({}), taxonomy))
    found = resolver.resolve(candidates_of(items))
    chains = taxonomy.ancestors(taxonomy.item_node(np.array(items, np.uint64)), 2)
    assert found.main_category.tolist() == chains[:, 1].tolist()
    for at, node in enumerate(chains[:, 1].tolist()):
        listed = found.category_node[found.category_offsets[at] : found.category_offsets[at + 1]]
        assert listed.tolist() == ([node] if node < taxonomy.unmapped else [])
