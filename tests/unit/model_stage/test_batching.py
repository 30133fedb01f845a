"""Batches: every candidate once, in bounded batches, the same for equal seeds, whoever makes them."""

from __future__ import annotations

import threading
from itertools import islice
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.config.train import TrainConfig
from model_stage.encoding.batch import collate
from model_stage.training import batching, trainer
from model_stage.training.batching import InOrder, Shuffled, batches, prefetched
from model_stage.training.examples import Examples
from model_stage.training.trainer import shuffled_batches, train
from tests.worlds.examples import assert_equal, make_example, make_users
from tests.worlds.networks import TARGETS, config_of, make_network

MANY = 10**9


def plain_shuffled_batches(made, config, generator):
    """The definition: cuts every request into random parts, deals them out, fills batches one part at a time."""
    parts = []
    for at, example in enumerate(made):
        shuffled = generator.permutation(len(example.rows))
        cut = np.array_split(shuffled, -(-len(shuffled) // config.request_candidates))
        parts += [(at, np.sort(chosen)) for chosen in cut]
    waiting, size, pairs, behaviors = [], 0, 0, 0
    for at, chosen in (parts[number] for number in generator.permutation(len(parts))):
        more = int(np.diff(made[at].encoded.offsets)[chosen].sum())
        length = made[at].history.stop - made[at].history.first if made[at].history else 0
        if waiting and (pairs + more > config.batch_pairs or behaviors + length > batching.MAX_BEHAVIORS):
            yield waiting
            waiting, size, pairs, behaviors = [], 0, 0, 0
        waiting.append((at, chosen))
        size, pairs, behaviors = size + len(chosen), pairs + more, behaviors + length
        if size >= config.batch_candidates:
            yield waiting
            waiting, size, pairs, behaviors = [], 0, 0, 0
    if waiting:
        yield waiting


@settings(deadline=None, max_examples=60)
@given(
    requests=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=8),
    part=st.integers(1, 5),
    candidates=st.integers(1, 12),
    pairs=st.sampled_from([1, 5, 20, MANY]),
    seed=st.integers(0, 3),
    behaviors=st.sampled_from([None, 1, 8, MANY]),
)
def test_batches_are_those_of_the_plain_definition(requests, part, candidates, pairs, seed, behaviors):
    with_history = behaviors is not None
    made = [make_example(lengths, at, history=with_history) for at, lengths in enumerate(requests)]
    config = TrainConfig(request_candidates=part, batch_candidates=candidates, batch_pairs=pairs)
    examples = Examples.of(made, make_users() if with_history else None)
    with mock.patch.object(batching, "MAX_BEHAVIORS", behaviors or MANY):
        found = list(shuffled_batches(examples, config, np.random.default_rng(seed)))
        expected = list(plain_shuffled_batches(made, config, np.random.default_rng(seed)))
    assert len(found) == len(expected)
    for batch, parts in zip(found, expected, strict=True):
        assert_equal(batch.requests.batch(), collate([made[at].encoded.take(chosen) for at, chosen in parts]))
        np.testing.assert_array_equal(batch.rows, np.concatenate([made[at].rows[chosen] for at, chosen in parts]))


def test_every_candidate_comes_by_once_in_parts_of_its_request():
    offsets = np.array([0, 1, 8, 8 + 30, 8 + 30 + 16])
    order = Shuffled.of(offsets, 16, np.random.default_rng(0))
    requests, candidates, ends = order.chosen(0, len(order.ends) - 1)
    assert sorted(candidates.tolist()) == list(range(offsets[-1]))
    assert np.diff(ends).tolist() == np.diff(order.ends).tolist()
    assert sorted(zip(requests.tolist(), np.diff(ends).tolist(), strict=True)) == [
        (0, 1), (1, 7), (2, 15), (2, 15), (3, 16)
    ]  # fmt: skip
    assert np.array_equal(np.searchsorted(offsets, candidates, side="right") - 1, np.repeat(requests, np.diff(ends)))


def test_another_seed_and_the_next_epoch_deal_differently():
    offsets, generator = np.arange(0, 300, 3), np.random.default_rng(0)
    orders = [Shuffled.of(offsets, 2, g).order.tolist() for g in (generator, generator, np.random.default_rng(1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_in_order_gives_whole_requests_as_they_stand():
    made = [make_example([2] * length, length) for length in (3, 1, 4, 2)]
    examples = Examples.of(made)
    found = list(batches(examples, InOrder(examples.requests.candidate_offsets), 4, MANY))
    assert [len(batch) for batch in found] == [2, 1, 1]
    assert np.concatenate([batch.rows for batch in found]).tolist() == examples.rows.tolist()


def test_pairs_bound_a_batch_but_for_a_single_part():
    made = [make_example([pairs], pairs) for pairs in (4, 4, 9, 1, 1, 1)]
    examples = Examples.of(made)
    found = list(batches(examples, InOrder(examples.requests.candidate_offsets), MANY, 8))
    assert [len(batch.requests.pair_behavior) for batch in found] == [8, 9, 3]


def test_prefetched_gives_the_same_in_order_from_one_thread():
    threads = set()

    def source():
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    assert list(prefetched(source())) == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(prefetched(iter([]))) == []


def test_an_error_comes_where_it_belongs_and_what_is_left_unread_is_not_made():
    made = []

    def source():
        for number in range(10):
            made.append(number)
            yield number
        raise ValueError("broken")

    taken = prefetched(source())
    assert list(islice(taken, 10)) == list(range(10))
    with pytest.raises(ValueError, match="broken"):
        next(taken)
    made.clear()
    assert list(islice(prefetched(source()), 3)) == [0, 1, 2]
    assert len(made) <= 3 + 2


def test_prefetching_changes_no_number(monkeypatch):
    examples = Examples.of([make_example([8, 3, 9, 0], seed) for seed in range(6)])
    found = []
    for fetch in (prefetched, iter):
        monkeypatch.setattr(trainer, "prefetched", fetch)
        network = make_network(config_of("tin", dropout=0.3), std=0.1)
        config = TrainConfig(max_epochs=2, batch_candidates=5, request_candidates=3)
        report = train(network, examples, examples, TARGETS.names, [1.0, 1.0], config)
        found.append((report, network.state_dict()))
    (ahead, first), (alone, second) = found
    assert ahead.train_loss == alone.train_loss
    assert ahead.validation_auc == alone.validation_auc
    assert all(torch.equal(first[name], second[name]) for name in first)
