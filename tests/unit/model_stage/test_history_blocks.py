"""Blocks over the whole history: what is alike is read once, some at a time, and nothing of it shows in an answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.blocks import din, history
from model_stage.blocks.history import number_rows
from model_stage.blocks.stca import suffix_lengths
from model_stage.config.schema import parse_config
from model_stage.errors import ConfigError
from model_stage.networks import NetworkConfig
from model_stage.networks.preset import Preset, load_preset
from store.retrieval import WHOLE_HISTORY
from tests.worlds.networks import batch_of, config_of, make_network, make_request, run

PRESETS = ("din_history", "stca")
OPTIONS = {"kind": "stca", "heads": 2, "head_dim": 4, "layers": 2, "suffix": [1, 3]}


def requests():
    """Long and short histories with few different behaviors, and candidates of which some are alike."""
    made = [
        make_request([4, 0, 4, 7, 12, 7], num_behaviors=40, seed=1),
        make_request([0, 0], num_behaviors=0, seed=2),
        make_request([9, 3, 9, 3], num_behaviors=30, seed=3),
    ]
    return [
        replace(
            one,
            behavior_node=1 + one.behavior_node % 3,
            behavior_side=one.behavior_side * np.array([1, 0, 0], np.int32),
            candidate_node=1 + one.candidate_node % 2,
        )
        for one in made
    ]


def outputs_of(network, *given):
    output = run(network, *given)
    return output.logit_BT, output.weight_MT, output.rest_BT


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=12), large=st.booleans())
def test_rows_are_numbered_as_numpy_numbers_them(rows, large):
    columns = np.array(rows, np.int64).reshape(-1, 3)
    if large:  # numbers that cannot be told apart in one of 64 bits
        columns = columns * (2**31 - 1)
    first, number = number_rows([torch.from_numpy(column.copy()) for column in columns.T])
    _, expected_first, expected = np.unique(columns, axis=0, return_index=True, return_inverse=True)
    assert first.tolist() == expected_first.tolist()
    assert number.tolist() == expected.ravel().tolist()


def test_din_over_a_history_is_din_over_all_pairs_of_candidates_and_behaviors():
    """Behaviors that are alike are counted, candidates that are alike ask once: the twin does neither."""
    whole, retrieved = make_network(config_of("din_history")), make_network(config_of("din_full"))
    retrieved.load_state_dict(whole.state_dict())
    everyone = []
    for seed, (candidates, behaviors) in enumerate([(6, 40), (2, 0), (4, 30), (1, 1)]):
        one = make_request([behaviors] * candidates, num_behaviors=behaviors, seed=seed)
        node = 1 + one.behavior_node % 3
        side = one.behavior_side * np.array([1, 0, 0], np.int32)
        everyone.append(replace(one, behavior_node=node, behavior_side=side, candidate_node=1 + one.candidate_node % 2))
    for found, expected in zip(outputs_of(whole, *everyone), outputs_of(retrieved, *everyone), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_candidates_asked_some_at_a_time_find_the_same(preset, monkeypatch):
    network = make_network(config_of(preset))
    expected = outputs_of(network, *requests())
    for cells in (1, 50, 100):
        monkeypatch.setattr(history, "CELLS", cells)
        monkeypatch.setattr(din, "CELLS", cells)
        for found, once in zip(outputs_of(network, *requests()), expected, strict=True):
            torch.testing.assert_close(found, once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_gradients_are_the_same_however_much_is_looked_at_at_once(preset, monkeypatch):
    gradients = []
    for cells in (1 << 20, 30):
        monkeypatch.setattr(din, "CELLS", cells)
        network = make_network(config_of(preset))
        network(batch_of(*requests())).logit_BT.square().sum().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_network_asks_once_for_candidates_and_behaviors_that_are_alike(preset, monkeypatch):
    """What the law of a candidate alone allows, and what makes it cheap: 12 candidates are 2 nodes of a request."""
    network, asked = make_network(config_of(preset)), []
    block = network.interest[0].tables[0]
    read = block.read_lists if preset == "din_history" else block.forward

    def spy(x, *more):
        asked.append((len(x.candidate_BD), len(x.values_ND)))
        return read(x, *more)

    monkeypatch.setattr(block, "read_lists" if preset == "din_history" else "forward", spy)
    run(network, *requests())
    ((questions, rows),) = asked
    assert questions == sum(len(np.unique(one.candidate_node)) for one in requests())
    sides = [np.unique(np.column_stack([one.behavior_node, one.behavior_side]), axis=0) for one in requests()]
    assert rows == (sum(map(len, sides)) if preset == "din_history" else 70)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_oldest_behavior_moves_a_score_and_one_that_is_no_newest_does_not(preset):
    """`num_newest` is what search says is the history: the union may have more where it answered for a number."""
    network, request = make_network(config_of(preset)), make_request([5, 7], num_behaviors=40, seed=8)
    node = request.behavior_node.copy()
    node[0] = 1 + node[0] % 7
    moved = replace(request, behavior_node=node)
    before, after = (run(network, one).logit_BT for one in (request, moved))
    assert not torch.allclose(before, after, atol=1e-6)
    cut = [replace(one, num_newest=39) for one in (request, moved)]
    assert torch.equal(run(network, cut[0]).logit_BT, run(network, cut[1]).logit_BT)


def test_training_reads_suffixes_and_serving_reads_all():
    network = make_network(NetworkConfig.model_validate({"preset": _preset(blocks=[OPTIONS]), "tower": [8]}))
    request = make_request([3], num_behaviors=50, seed=4)
    node = np.arange(50, dtype=np.int32) % 20 + 10
    batch = batch_of(replace(request, behavior_node=node, candidate_node=np.array([2], np.int32)))
    reached = set()
    for _ in range(20):
        network.zero_grad()
        network.train()(batch).logit_BT.sum().backward()
        touched = torch.where(network.representation.node.weight.grad.abs().sum(1) > 0)[0].tolist()
        reached.add(sum(row >= 10 for row in touched))
    assert reached == {1, 2, 3}, "as many as a suffix has, of different lengths"
    torch.manual_seed(5)
    first = network(batch).logit_BT
    torch.manual_seed(5)
    assert torch.equal(network(batch).logit_BT, first), "equal seeds, equal suffixes"
    network.zero_grad()
    network.eval()(batch).logit_BT.sum().backward()
    assert int((network.representation.node.weight.grad[10:].abs().sum(1) > 0).sum()) == 20


def test_suffixes_are_between_their_ends_and_mostly_near_one_of_them():
    lengths = suffix_lengths(torch.linspace(0, 1, 10_001), 64, 2048)
    assert (int(lengths.min()), int(lengths.max())) == (64, 2048)
    assert float(lengths.double().mean()) == pytest.approx(1056, abs=2)
    near = (lengths < 64 + 198) | (lengths > 2048 - 198)
    assert 0.4 < float(near.double().mean()) < 0.45, "a tenth at either end has two fifths of an arcsine's mass"


def _preset(**options):
    return {"name": "mine", "summary": "Mine.", **options}


def test_a_history_stands_beside_what_was_retrieved():
    """A block over the history in a preset with another selection: the other blocks read what they did before."""
    blocks = [{"kind": "tin"}, {"kind": "sasrec", "scope": "union", "newest": 3, "shared": [], "heads": 2, "layers": 0}]
    both = parse_config("x", _preset(blocks=[*blocks, OPTIONS], selection={"newest": 4}), Preset)
    few = parse_config("x", _preset(blocks=blocks, selection={"newest": 4}), Preset)
    assert (both.newest_read, few.newest_read) == (WHOLE_HISTORY, 3)
    networks = [make_network(NetworkConfig(preset=preset, tower=(8,))) for preset in (both, few)]
    state = {name: value for name, value in networks[0].state_dict().items() if not name.startswith("towers")}
    networks[1].load_state_dict({name: state[name] for name in networks[1].state_dict() if name in state}, strict=False)
    mine, theirs = (run(network, *requests()).interests[0][:2] for network in networks)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.representation_BR, other.representation_BR)
        assert torch.equal(one.weight_WM, other.weight_WM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"selection": "history", "blocks": [{"kind": "tin"}, OPTIONS]},
            "selection: history: tin cannot read it; din, stca",
        ),
        ({"selection": "future", "blocks": [OPTIONS]}, "selection"),
        ({"blocks": [{**OPTIONS, "suffix": [0, 3]}]}, r"suffix: \[0, 3\] is no shortest and longest"),
        ({"blocks": [{**OPTIONS, "suffix": [4, 3]}]}, r"suffix: \[4, 3\] is no shortest and longest"),
    ],
)
def test_what_cannot_read_a_history_is_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=message):
        parse_config("train.yaml", _preset(**options), Preset)


def test_the_packaged_presets_read_all_of_it():
    assert {name: load_preset(name).newest_read for name in PRESETS} == dict.fromkeys(PRESETS, WHOLE_HISTORY)
