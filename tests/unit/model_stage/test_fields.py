"""Fields of each kind: from values to rows, and from training impressions to what those rows need."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_stage.bundle import Provenance, load_bundle, new_network, save_bundle
from model_stage.calibration import Calibration
from model_stage.config.schema import BucketedField, CategoricalField, MultiValuedField, Schema
from model_stage.encoding.batch import collate
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.values import resolve_lists
from model_stage.encoding.vocabulary import bucket_rows, fit_boundaries, hashed_rows
from model_stage.errors import ConfigError
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from model_stage.networks import NetworkConfig
from model_stage.ranking.compatibility import find_field_mismatch
from model_stage.training.vocabularies import known_ids
from store.lists import Lists
from store.types import NO_ID, parse_id
from tests.worlds.bundles import SCHEMA, TARGETS, VOCABULARIES, edited, opened
from tests.worlds.networks import batch_of, config_of, gradient_of, make_network, make_request

PRICE = BucketedField(kind="bucketed", name="price", part="candidate", buckets=4, dim=3)
SHOP = CategoricalField(kind="categorical", name="shop", part="candidate", rows=50)
BRAND = SCHEMA.fields[0]
WITH_FIELDS = Schema(attention_dim=4, representation_dim=4, fields=(BRAND, PRICE, SHOP))
FITTED = replace(VOCABULARIES, boundaries={"price": np.array([1, 2.5], np.float32)})

numbers = st.floats(width=32, allow_infinity=False) | st.sampled_from([0.0, 1.0, 2.0, math.nan])


def bucket_of(value, boundaries):
    """The plain twin: counts the boundaries that a value has reached."""
    return 0 if math.isnan(value) else 1 + sum(1 for boundary in boundaries if value >= boundary)


@given(st.lists(numbers, max_size=30), st.lists(numbers, max_size=30), st.integers(2, 9))
def test_buckets_are_half_open_and_as_even_as_ties_let_them(seen, asked, buckets):
    seen, asked = np.array(seen, np.float32), np.array(asked, np.float32)
    boundaries = fit_boundaries(seen, buckets)
    assert boundaries.dtype == np.float32
    assert len(boundaries) < buckets
    assert bool(np.all(boundaries[1:] > boundaries[:-1]))
    everything = np.concatenate([seen, asked, boundaries])
    expected = [bucket_of(float(value), boundaries.tolist()) for value in everything]
    assert bucket_rows(everything, boundaries).tolist() == expected
    known = np.sort(seen[~np.isnan(seen)])
    if len(known):
        assert set(bucket_rows(known, boundaries).tolist()) == set(range(1, len(boundaries) + 2)), "a bucket is empty"
        equal_slices = {float(known[i * len(known) // buckets]) for i in range(1, buckets)}
        assert set(boundaries.tolist()) == equal_slices - {float(known[0])}


def test_distinct_numbers_fall_into_equal_buckets_and_ties_make_fewer():
    draw = np.random.default_rng(0)
    values = draw.permutation(np.arange(1000, dtype=np.float32))
    counts = np.bincount(bucket_rows(values, fit_boundaries(values, 8)))
    assert counts.tolist() == [0] + [125] * 8
    mostly_zero = np.where(draw.random(1000) < 0.6, np.float32(0), values)
    boundaries = fit_boundaries(mostly_zero, 8)
    assert 0 < len(boundaries) < 7
    assert boundaries.min() > 0
    assert fit_boundaries(np.full(9, 3, np.float32), 8).tolist() == []
    assert fit_boundaries(np.full(9, np.nan, np.float32), 8).tolist() == []


def test_values_beyond_the_ends_and_at_a_boundary_have_the_bucket_the_docs_say():
    boundaries = np.array([2.0, 3.5], np.float32)
    values = np.array([-1e30, 1.9, 2.0, 3.4, 3.5, 1e30, np.nan], np.float32)
    assert bucket_rows(values, boundaries).tolist() == [1, 1, 2, 2, 3, 3, 0]


def splitmix64(value):
    """As in the paper, with Python's own integers."""
    mask = 2**64 - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & mask
    return value ^ (value >> 31)


@given(st.lists(st.integers(0, NO_ID), max_size=20), st.integers(2, 1 << 24))
def test_hashed_rows_are_the_documented_hash(ids, num_rows):
    expected = [0 if value == NO_ID else 1 + splitmix64(value) % num_rows for value in ids]
    assert hashed_rows(np.array(ids, np.uint64), num_rows).tolist() == expected


def test_hashed_rows_of_ids_in_a_row_are_spread_evenly_and_never_change():
    counts = np.bincount(hashed_rows(np.arange(64_000, dtype=np.uint64), 64), minlength=65)
    assert counts[0] == 0
    assert 850 < counts[1:].min() <= counts[1:].max() < 1150
    assert hashed_rows(np.array([0, 1, parse_id("leaf")], np.uint64), 1000).tolist() == [1, 790, 80]


def test_rare_ids_are_none_of_the_vocabulary():
    seen = np.array([5, 5, 5, 7, 9, 9, NO_ID, NO_ID, NO_ID], np.uint64)
    assert known_ids(seen, 1).tolist() == [5, 7, 9]
    assert known_ids(seen, 2).tolist() == [5, 9]
    assert known_ids(seen, 3).tolist() == [5]
    assert known_ids(seen[:0], 2).tolist() == []


def published(root):
    network = new_network(WITH_FIELDS, TARGETS, NetworkConfig(), FITTED, seed=1)
    save_bundle(
        root,
        schema=WITH_FIELDS,
        targets=TARGETS,
        network_config=NetworkConfig(),
        vocabularies=FITTED,
        network=network,
        calibration=Calibration(by_target={}),
        metrics={},
        provenance=Provenance(),
    )
    return network, load_bundle(root)


def test_a_bundle_keeps_boundaries_and_needs_no_vocabulary_for_hashed_ids(tmp_path, run):
    network, bundle = published(tmp_path)
    assert bundle.schema == WITH_FIELDS
    assert bundle.vocabularies.boundaries["price"].tolist() == [1, 2.5]
    assert list(bundle.vocabularies.categorical) == ["brand"]
    assert [table.num_embeddings for table in network.categorical] == [4, 4, 51]
    request, found = synthetic_request(bundle, sample_categories(bundle, 4), [], [])
    given = {
        "brand": np.array([1, 2, 99, NO_ID], np.uint64),
        "price": np.array([0.5, 1, 7, np.nan], np.float32),
        "shop": np.array([0, 1, 1, NO_ID], np.uint64),
    }
    encoded = RequestEncoder(bundle.schema, bundle.vocabularies).encode(replace(request, candidate_fields=given), found)
    one = 1 + splitmix64(1) % 50
    assert encoded.categorical.T.tolist() == [[2, 3, 1, 0], [1, 2, 3, 0], [1, one, one, 0]]
    assert "price" not in bundle.encoder.dense_names
    code, out, _ = run("bundle", "show", "--bundle", tmp_path)
    assert code == 0
    assert "candidate price (bucketed, 4 rows), candidate shop (categorical, 51 rows)" in out
    assert run("bundle", "verify", "--bundle", tmp_path)[0] == 0


def test_unknown_says_nothing_before_training_and_missing_and_values_do():
    network = new_network(WITH_FIELDS, TARGETS, NetworkConfig(), FITTED, seed=1)
    speaks = [[bool(row.any()) for row in table.weight[:3]] for table in network.categorical]
    assert speaks == [[True, False, True], [True, True, True], [True, True, True]]
    assert all(torch.isfinite(table.weight).all() for table in network.categorical)


@pytest.mark.parametrize("missing", ["field.brand", "boundaries.price"])
def test_a_bundle_without_what_its_fields_need_is_refused(tmp_path, missing):
    from safetensors.numpy import load_file, save_file

    from model_stage.errors import BundleError

    published(tmp_path)

    def without(path, meta):
        arrays = load_file(path / "vocabulary.safetensors")
        del arrays[missing]
        save_file(arrays, path / "vocabulary.safetensors")

    with pytest.raises(BundleError, match=f"do not fit one another .*{missing.partition('.')[2]}"):
        load_bundle(tmp_path, edited(tmp_path, without))


TAGS = MultiValuedField(kind="multi_valued", name="tags", part="candidate", dim=3)
LIKES = MultiValuedField(kind="multi_valued", name="likes", part="user", rows=20, dim=2)
WITH_LISTS = Schema(attention_dim=4, representation_dim=4, fields=(BRAND, TAGS, LIKES))
TAGGED = replace(
    VOCABULARIES, categorical={**VOCABULARIES.categorical, "tags": np.array([3, 5, 8, parse_id("x")], np.uint64)}
)


def lists_of(*lists):
    values = np.array([value for each in lists for value in each], np.uint64)
    return Lists(
        values=values, offsets=np.concatenate(([0], np.cumsum([len(each) for each in lists]))).astype(np.int64)
    )


def as_sets(lists):
    return [set(lists.values[a:b].tolist()) for a, b in pairwise(lists.offsets.tolist())]


ragged = st.lists(st.lists(st.integers(0, 12) | st.just(parse_id("x")), max_size=6), max_size=5)


@given(ragged)
def test_rows_of_lists_are_those_of_their_known_ids_each_once(drawn):
    known = {3: 1, 5: 2, 8: 3, parse_id("x"): 4}
    rows = TAGGED.list_rows(TAGS, lists_of(*drawn))
    assert as_sets(rows) == [{known[value] for value in each if value in known} for each in drawn]
    assert rows.lengths.tolist() == [len(each) for each in as_sets(rows)]
    hashed = TAGGED.list_rows(LIKES, lists_of(*drawn))
    assert as_sets(hashed) == [{1 + splitmix64(value) % 20 for value in each} for each in drawn]


@given(ragged, ragged, st.booleans())
def test_an_empty_list_falls_back_to_what_the_store_knows(given_lists, stored, one):
    count = max(len(given_lists), len(stored))
    padded = [[*each, *([[]] * (count - len(each)))] for each in (given_lists, stored)]
    if one and count:
        padded = [each[:1] for each in padded]
    found = resolve_lists(lists_of(*padded[0]), lists_of(*padded[1]), count)
    if one and count:
        padded = [each * count for each in padded]
    expected = [mine or theirs for mine, theirs in zip(*padded, strict=True)]
    assert [found.values[a:b].tolist() for a, b in pairwise(found.offsets.tolist())] == expected
    assert as_sets(resolve_lists(None, None, 2)) == [set(), set()]


def test_the_embedding_of_a_list_is_the_mean_over_its_known_values(tmp_path):
    network = new_network(WITH_LISTS, TARGETS, NetworkConfig(), TAGGED, seed=1).eval()
    assert [table.num_embeddings for table in network.multi_valued] == [5, 21]
    encoder = RequestEncoder(WITH_LISTS, TAGGED)
    request, found = synthetic_request(opened(tmp_path), np.array([10, 20, 30], np.uint64), [], [])
    asked = replace(
        request,
        candidate_fields={"tags": lists_of([8, 3, 99, 3], [], [99])},
        user_fields={"likes": lists_of([1, 2])},
    )
    batch = collate([encoder.encode(asked, found), encoder.encode(request, found)])
    table = network.multi_valued[0].weight.detach().numpy()
    expected = np.zeros((6, 3), np.float32)
    expected[0] = (table[1] + table[3]) / 2
    rows, offsets = batch.multi_valued[0]
    np.testing.assert_allclose(network.multi_valued[0](rows, offsets).detach().numpy(), expected, rtol=1e-6)
    likes = network.multi_valued[1](*batch.multi_valued[1]).detach().numpy()
    both = sorted({1 + splitmix64(1) % 20, 1 + splitmix64(2) % 20})
    mean = network.multi_valued[1].weight.detach().numpy()[both].mean(0)
    np.testing.assert_allclose(likes, [mean, mean, mean, *np.zeros((3, 2))], rtol=1e-6)
    listed = network(batch).logit_BT
    without = network(collate([encoder.encode(request, found)] * 2)).logit_BT
    assert torch.equal(listed[3:], without[3:]), "no list, no unknown id and no batch-mate says anything"
    assert not torch.equal(listed[:1], without[:1])


def test_order_and_repetition_in_a_list_change_nothing(tmp_path):
    bundle = opened(tmp_path)
    encoder = RequestEncoder(WITH_LISTS, TAGGED)
    request, found = synthetic_request(bundle, np.array([10, 20], np.uint64), [], [])
    one, other = (
        encoder.encode(replace(request, candidate_fields={"tags": lists}), found).multi_valued[0]
        for lists in (lists_of([8, 3, 5], [5]), lists_of([5, 3, 8, 3], [5, 5]))
    )
    assert (one.values.tolist(), one.offsets.tolist()) == (other.values.tolist(), other.offsets.tolist())


def test_gradients_of_a_list_reach_its_rows_and_no_others():
    network = make_network(config_of("tin")).train()
    request = make_request([3, 3], seed=2)
    batch = batch_of(request)
    network(batch).logit_BT.square().sum().backward()
    for table, lists in zip(network.multi_valued, request.multi_valued, strict=True):
        touched = set(np.flatnonzero(gradient_of(table.weight).any(1).numpy()).tolist())
        assert touched == set(lists.values.tolist())
        assert touched


def test_a_node_is_the_sum_over_its_path_and_without_a_row_of_its_own_its_parent():
    """Tree of `bundles.py`: category 20 (row 2) is below 10 (row 1), item 7 (row 5) below 20."""
    network = new_network(SCHEMA, TARGETS, NetworkConfig(), VOCABULARIES, seed=1)
    for table in (network.attention, network.representation):
        weight = table.node.weight.detach()
        new_leaf, known_leaf, new_category = (
            table.nodes(torch.from_numpy(VOCABULARIES.tree.rows(*map(lists_of_one, ids)))).detach()[0]
            for ids in ((99, 20), (7, 20), (99, 98))
        )
        torch.testing.assert_close(new_leaf, weight[1] + weight[2], rtol=0, atol=0)
        assert bool(new_leaf.any())
        assert torch.equal(known_leaf, new_leaf), "an item begins as its category"
        assert not bool(new_category.any()), "what is above it, the bundle does not know"
        with torch.no_grad():
            table.node.weight[5] += 1
        torch.testing.assert_close(table.nodes(torch.tensor([5])).detach()[0], new_leaf + 1)


def lists_of_one(value):
    return np.array([value], np.uint64)


DEVICE = CategoricalField(kind="categorical", name="device", part="behavior")
STARS = BucketedField(kind="bucketed", name="stars", part="behavior")
WITH_SIDE_INFO = Schema(
    attention_dim=4, representation_dim=4, behavior_fields=("stars", "action", "device"), fields=(DEVICE, STARS)
)
SIDE_INFO = replace(
    VOCABULARIES,
    categorical={"device": np.array([5, 6], np.uint64)},
    boundaries={"stars": np.array([2], np.float32)},
)


def with_side_info(found):
    count = len(found.behaviors)
    device = np.resize(np.array([5, 6, 7, NO_ID], np.uint64), count)
    stars = np.resize(np.array([1, np.nan, 2], np.float32), count)
    return replace(found, behavior_fields={"device": device, "stars": stars})


def test_side_info_of_behaviors_is_fused_into_both_tables_in_the_order_of_the_schema(tmp_path):
    network = new_network(WITH_SIDE_INFO, TARGETS, NetworkConfig(), SIDE_INFO, seed=1).eval()
    request, found = synthetic_request(opened(tmp_path), np.array([10], np.uint64), [9, 7, 5, 3], [0, 0, 0, 0])
    encoded = RequestEncoder(WITH_SIDE_INFO, SIDE_INFO).encode(request, with_side_info(found))
    assert encoded.behavior_side.T.tolist() == [[1, 0, 2, 1], [1, 1, 1, 1], [2, 3, 1, 0]]
    batch = collate([encoded])
    for table in (network.attention, network.representation):
        stars, action, device = (each.weight.detach() for each in table.side)
        assert (len(stars), len(action), len(device)) == (3, 2, 4)
        fused = table.behaviors(batch.behavior_node_U, batch.behavior_side_UF).detach()
        node = table.nodes(batch.behavior_node_U).detach()
        expected = node + stars[torch.tensor([1, 0, 2, 1])] + action[1] + device[torch.tensor([2, 3, 1, 0])]
        torch.testing.assert_close(fused, expected)
    none = collate([RequestEncoder(WITH_SIDE_INFO, SIDE_INFO).encode(request, found)])
    assert not torch.equal(network(batch).logit_BT, network(none).logit_BT)
    network(batch).logit_BT.sum().backward()
    for table in (network.attention, network.representation):
        for each in table.side:
            assert bool(gradient_of(each.weight).any())


def test_the_parts_of_a_subset_may_be_declared_fields(tmp_path):
    def network(*subsets):
        blocks = [{"kind": "side_info_tin", "subsets": subsets}]
        preset = {"name": "mine", "summary": "Mine.", "blocks": blocks}
        config = NetworkConfig.model_validate({"preset": preset})
        return new_network(WITH_SIDE_INFO, TARGETS, config, SIDE_INFO, seed=1).eval()

    request, found = synthetic_request(opened(tmp_path), np.array([10], np.uint64), [9, 7, 5, 3], [0, 0, 0, 0])
    batch = collate([RequestEncoder(WITH_SIDE_INFO, SIDE_INFO).encode(request, with_side_info(found))])
    with_device, without = (network(*subsets)(batch) for subsets in ([["node", "device"]], [["node", "scene"]]))
    assert not torch.equal(with_device.weight_MT, without.weight_MT)
    with pytest.raises(ConfigError, match="subsets: 'devcie' is no part of behaviors; there are node, stars, act"):
        network(["node", "devcie"])


def test_an_answer_without_the_side_info_that_was_asked_for_is_refused(tmp_path):
    _, found = synthetic_request(opened(tmp_path), np.array([10], np.uint64), [9], [0])
    assert find_field_mismatch(WITH_SIDE_INFO, with_side_info(found)) is None
    assert "'device' was asked for, and search answers without it" in find_field_mismatch(WITH_SIDE_INFO, found)
    numbers = replace(found, behavior_fields={"device": np.array([1], np.float32)})
    assert "behavior field 'device' is categorical, store  holds numbers" in find_field_mismatch(
        WITH_SIDE_INFO, numbers
    )
