"""Every preset as a whole network: what holds whatever the attention is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.bundle import Provenance, load_bundle, save_bundle
from model_stage.calibration import Calibration
from model_stage.config.targets import Targets
from model_stage.networks.preset import load_preset, preset_names
from tests.worlds.networks import (
    BUY,
    CLICK,
    SCHEMA,
    TARGETS,
    batch_of,
    config_of,
    gradient_of,
    make_network,
    make_request,
    run,
    vocabularies,
    weight_per_candidate,
    with_history,
)

PRESETS = preset_names()
FREE_WEIGHTS = {"hstu", "sdim"}
"""Their weights are no softmax and may sum to anything."""
BOUND_BF16 = 0.01
"""bfloat16 keeps eight bits, a few layers of products cost some of them: up to 0.0033 of a probability when written."""

pytestmark = pytest.mark.parametrize("preset", PRESETS)


def requests():
    """Three users: shared lists and empty ones, one without any behavior, one with a long list."""
    return [
        make_request([4, 0, 4, 7, 12, 7], seed=1),
        make_request([0, 0], num_behaviors=0, seed=2),
        make_request([90, 3, 90], num_behaviors=100, seed=3),
    ]


def test_a_candidate_is_scored_alone_whoever_stands_beside_it(preset):
    """I8: order, batch-mates and shared lists move neither a logit nor a weight."""
    network, everyone = make_network(config_of(preset)), requests()
    together = run(network, *everyone)
    weights = weight_per_candidate(together, batch_of(*everyone))
    parts = [one.take(np.array([at])) for one in everyone for at in range(len(one.candidate_node))]
    for at, part in enumerate(parts):
        alone = run(network, part)
        torch.testing.assert_close(alone.logit_BT[0], together.logit_BT[at], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.weight_MT, weights[at], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.rest_BT[0], together.rest_BT[at], atol=1e-5, rtol=1e-4)
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = run(network, everyone[2], everyone[0].take(order))
    expected = torch.cat([together.logit_BT[8:], together.logit_BT[torch.from_numpy(order)]])
    torch.testing.assert_close(shuffled.logit_BT, expected, atol=1e-4, rtol=1e-4)
    assert float(together.logit_BT.std(0).min()) > 1e-2, "all candidates score the same: this test says nothing"


def test_what_others_retrieved_moves_no_score(preset):
    """I8 once more: a sequence of the user holds the newest behaviors, not what stands beside them in the union."""
    network = make_network(config_of(preset))
    request = replace(make_request([5, 7], seed=8), num_newest=3)
    alone = request.take(np.array([0]))
    own = np.union1d(alone.pair_behavior, [9, 10, 11])
    node = np.where(np.isin(np.arange(12), own), request.behavior_node, 1 + request.behavior_node % 7)
    assert not np.array_equal(node, request.behavior_node)
    moved = run(network, replace(request, behavior_node=node.astype(np.int32)))
    torch.testing.assert_close(moved.logit_BT[0], run(network, alone).logit_BT[0], atol=1e-4, rtol=1e-4)


@settings(max_examples=8)
@given(drawn=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=3), data=st.data())
def test_no_drawn_batch_moves_a_score(preset, drawn, data):
    """I8 again, for batches nobody thought of."""
    network = make_network(config_of(preset))
    everyone = [make_request(lengths, num_behaviors=6, seed=at) for at, lengths in enumerate(drawn)]
    together = iter(run(network, *everyone).logit_BT)
    expected = [torch.stack([next(together) for _ in lengths]) for lengths in drawn]
    chosen = data.draw(st.integers(0, len(drawn) - 1))
    order = data.draw(st.permutations(range(len(drawn[chosen]))))
    alone = run(network, everyone[chosen].take(np.array(order))).logit_BT
    torch.testing.assert_close(alone, expected[chosen][list(order)], atol=1e-4, rtol=1e-4)


def test_history_moves_scores_unless_nothing_reads_it(preset):
    network, request = make_network(config_of(preset)), make_request([8, 8], seed=4)
    request = with_history(request, source=7)
    moved = replace(request, behavior_node=np.roll(request.behavior_node, 1))
    equal = torch.allclose(run(network, request).logit_BT, run(network, moved).logit_BT, atol=1e-4)
    assert equal == (preset == "popularity")


def test_weights_and_rest_are_a_whole(preset):
    network, everyone = make_network(config_of(preset)), requests()
    output, batch = run(network, *everyone), batch_of(*everyone)
    assert torch.isfinite(output.weight_MT).all()
    dropped = torch.ones(len(batch.source_M), dtype=torch.bool)
    kept = load_preset(preset).kept(batch.source_M, batch.candidate_M)
    dropped[slice(None) if kept is None else kept] = False
    assert torch.count_nonzero(output.weight_MT[dropped]) == 0
    if preset not in FREE_WEIGHTS:
        total_BT = output.rest_BT.index_add(0, batch.candidate_M, output.weight_MT)
        torch.testing.assert_close(total_BT, torch.ones_like(total_BT), atol=1e-5, rtol=0)
        assert float(output.weight_MT.min()) >= 0.0


@pytest.mark.parametrize("case", ["empty", "one", "identical", "never_seen"])
def test_odd_histories_are_scored(preset, case):
    network = make_network(config_of(preset))
    request = {
        "empty": make_request([0, 0, 0], num_behaviors=0, seed=5),
        "one": make_request([1, 0, 1], num_behaviors=1, seed=5),
        "identical": with_history(
            make_request([6, 6, 2], seed=5), behavior_node=4, behavior_side=1, interval_ms=1000, match_level=0
        ),
        "never_seen": with_history(
            make_request([6, 6, 2], seed=5), behavior_node=0, behavior_side=0, candidate_node=0, categorical=1
        ),
    }[case]
    output = run(network, request)
    assert output.logit_BT.shape == (3, 2)
    assert torch.isfinite(output.logit_BT).all()
    assert output.logit_BT.dtype == torch.float32


def test_a_target_alone_scores_as_it_does_beside_another(preset):
    config, buy = config_of(preset), BUY
    if load_preset(preset).positions == "shared":  # one set of tables has the encodings of both: let them be the same
        buy = BUY.model_copy(update={"positions": CLICK.positions})
    for first, second in ((CLICK, buy), (buy, CLICK)):
        both = make_network(config, Targets(targets=(first, second)))
        alone = make_network(config, Targets(targets=(first,)), seed=9)
        state = both.state_dict()
        alone.load_state_dict({name: state[name] for name in alone.state_dict()})
        for together, single in (
            (run(both, *requests()).logit_BT[:, :1], run(alone, *requests()).logit_BT),
            (run(both, *requests()).weight_MT[:, :1], run(alone, *requests()).weight_MT),
        ):
            torch.testing.assert_close(single, together, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_tables_that_the_blocks_read(preset):
    network = make_network(config_of(preset)).train()
    request = with_history(make_request([8, 8, 5], seed=6), source=7)
    every_20_minutes = np.arange(len(request.interval_ms), 0, -1) * 20 * 60_000
    batch = batch_of(replace(request, interval_ms=every_20_minutes))
    network(batch).logit_BT.square().sum().backward()
    described = load_preset(preset)
    assert bool(gradient_of(network.attention.node.weight).any()) == described.reads_attention
    assert bool(gradient_of(network.representation.node.weight).any())
    for name, parameter in network.interest.named_parameters():
        assert torch.isfinite(gradient_of(parameter)).all(), name
        assert bool(gradient_of(parameter).any()), f"{name} gets no gradient"


def test_extreme_inputs_give_finite_scores(preset):
    network = make_network(config_of(preset), std=30.0)
    request = make_request([12, 0, 5, 12], seed=7)
    wild = replace(
        request,
        dense=np.where(np.arange(request.dense.size).reshape(request.dense.shape) % 3, 1e30, np.nan).astype(np.float32),
        interval_ms=np.linspace(10**15, 0, len(request.interval_ms)).astype(np.int64),
    )
    output = run(network, wild)
    for values in (output.logit_BT, output.weight_MT, output.rest_BT):
        assert torch.isfinite(values).all()


def test_bfloat16_scores_like_float32(preset):
    network, everyone = make_network(config_of(preset)), requests()
    exact = run(network, *everyone)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = run(network, *everyone)
    assert rounded.logit_BT.dtype == torch.float32
    apart = (torch.sigmoid(rounded.logit_BT) - torch.sigmoid(exact.logit_BT)).abs().max()
    assert float(apart) < BOUND_BF16


def test_a_bundle_scores_as_the_network_it_was_made_of(preset, tmp_path):
    config = config_of(preset)
    network = make_network(config)
    save_bundle(
        tmp_path,
        schema=SCHEMA,
        targets=TARGETS,
        network_config=config,
        vocabularies=vocabularies(),
        network=network,
        calibration=Calibration(by_target={}),
        metrics={},
        provenance=Provenance(
            store_generation="s", taxonomy_fingerprint="t", train_from_ms=0, train_until_ms=86_400_000
        ),
    )
    bundle = load_bundle(tmp_path)
    assert bundle.network_config == config
    assert bundle.network_config.preset.name == preset
    assert torch.equal(run(bundle.network, *requests()).logit_BT, run(network, *requests()).logit_BT)
