"""The auxiliary loss over whole histories: its formula, whom it teaches, and that a request stands by itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from model_stage.config.train import TrainConfig
from model_stage.networks.preset import AuxiliaryLoss, load_preset, preset_names
from model_stage.training.auxiliary import AuxiliaryModel
from model_stage.training.examples import Example, Examples
from model_stage.training.history import Histories, Span, UserRows
from model_stage.training.trainer import log_loss, train
from tests.worlds.networks import (
    BUY,
    CLICK,
    DAY_MS,
    SCHEMA,
    TARGETS,
    batch_of,
    config_of,
    make_network,
    make_request,
)

CONFIG = config_of("dare", dropout=0.0)
LABELS = np.array([[1, 0], [0, np.nan], [1, 1]], np.float32)


def make_history(length, seed=0) -> Histories:
    """The history of one request, of so many behaviors."""
    draw = np.random.default_rng([length, seed])
    rows = UserRows(
        node=draw.integers(0, 30, length).astype(np.int32),
        side=draw.integers(0, 2, (length, 3)).astype(np.int32),
        timestamp_ms=np.sort(draw.integers(0, 300 * DAY_MS, length)),
    )
    return Histories.of([Span(0, length, 300 * DAY_MS)], rows)


def joined(histories) -> Histories:
    rows = UserRows.join([each.rows for each in histories])
    ends = np.cumsum([0, *(len(each.rows) for each in histories)]).tolist()
    spans = [Span(first, stop, 300 * DAY_MS) for first, stop in itertools.pairwise(ends)]
    return Histories.of(spans, rows)


def example_of(request, history=None) -> Examples:
    span = None if history is None else Span(0, len(history.rows), 300 * DAY_MS)
    example = Example(encoded=request, labels=LABELS, rows=np.arange(3), history=span)
    return Examples.of([example], None if history is None else history.rows)


def make_auxiliary(weight=1.0, seed=0) -> AuxiliaryModel:
    auxiliary = AuxiliaryModel(SCHEMA, TARGETS, CONFIG, weight, seed)
    with torch.no_grad():
        for parameter in auxiliary.block.parameters():
            parameter.mul_(25.0)  # positions that matter
    return auxiliary


def loss_in_numpy(network, auxiliary, request, history, labels, weights):
    """The formulas of `blocks.dare` and of the loss, in float64, from nothing but the parameters."""
    value = {name: p.detach().numpy().astype(np.float64) for name, p in network.named_parameters()}
    own = {name: p.detach().numpy().astype(np.float64) for name, p in auxiliary.named_parameters()}
    path = network.attention.path.numpy()

    def fused(part, rows, side=None):
        node = np.concatenate([np.zeros_like(value[f"{part}.node.weight"][:1]), value[f"{part}.node.weight"][1:]])
        total = node[path[rows]].sum(1)
        if side is not None:
            total = total + sum(value[f"{part}.side.{column}.weight"][side[:, column]] for column in range(3))
        return total

    minutes = np.log1p(history.interval_ms / 60_000.0) / np.log1p(BUY.positions[0].span_days * 1440.0)
    buckets = [
        np.minimum(np.arange(len(history.rows))[::-1], 7),  # rank, 8 buckets, the newest 0
        np.full(len(history.rows), 3),  # match level of what was not found, 3 levels
        np.clip((minutes * 6).astype(int), 0, 5),  # interval, 6 buckets
    ]
    assert [p.kind for p in (*CLICK.positions, *BUY.positions)] == ["rank", "match_level", "interval"]
    time = {
        name: sum(own[f"block.{name}_positions.rows.{k}"][bucket] for k, bucket in enumerate(buckets))
        for name in ("attention", "representation")
    }
    key, seen = (
        fused("attention", history.rows.node, history.rows.side),
        fused("representation", history.rows.node, history.rows.side),
    )
    query, shown = fused("attention", request.candidate_node), fused("representation", request.candidate_node)
    score = query @ key.T / np.sqrt(8) + time["attention"] @ own["block.attention_positions.candidate_row"] / np.sqrt(8)
    weight = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    pooled = weight @ np.concatenate([seen, time["representation"]], axis=1)
    zero = np.broadcast_to(own["block.representation_positions.candidate_row"], (len(shown), 8))
    u = np.concatenate([shown, pooled, pooled * np.concatenate([shown, zero], axis=1)], axis=1)
    hidden = np.maximum(u @ own["head.0.weight"].T + own["head.0.bias"], 0)
    probability = 1 / (1 + np.exp(-(hidden @ own["head.2.weight"].T + own["head.2.bias"])))
    total = 0.0
    for target in range(2):
        known = ~np.isnan(labels[:, target])
        label, said = labels[known, target], probability[known, target]
        total += -weights[target] * np.mean(label * np.log(said) + (1 - label) * np.log(1 - said))
    return total


def test_equals_an_independent_numpy_implementation():
    network, auxiliary = make_network(CONFIG), make_auxiliary()
    request, history = make_request([2, 0, 4]), make_history(9)
    logit_BT = auxiliary(network, batch_of(request), history)
    found = log_loss(logit_BT, torch.from_numpy(LABELS), torch.tensor([1.0, 0.7]))
    expected = loss_in_numpy(network, auxiliary, request, history, LABELS, [1.0, 0.7])
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_a_request_stands_by_itself_and_an_empty_history_is_one():
    network, auxiliary = make_network(CONFIG), make_auxiliary()
    requests = [make_request(lengths, seed=len(lengths)) for lengths in ([2, 0], [3], [1, 1, 4])]
    histories = [make_history(5), make_history(0), make_history(30)]
    with torch.no_grad():
        together = auxiliary(network, batch_of(*requests), joined(histories))
        alone = [auxiliary(network, batch_of(r), h) for r, h in zip(requests, histories, strict=True)]
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def moved_attention_rows(auxiliary, tables, history):
    network = make_network(CONFIG, std=0.1)
    request = make_request([2, 3, 1], num_behaviors=3)
    before = network.attention.node.weight.detach().clone()
    examples = example_of(request, history)
    config = TrainConfig(max_epochs=1, averaging=0.0, tables=tables)
    report = train(network, examples, examples, TARGETS.names, [1.0, 1.0], config, auxiliary=auxiliary)
    assert len(report.auxiliary_loss) == (auxiliary is not None)
    moved = (network.attention.node.weight.detach() != before).any(1)
    nodes = np.concatenate([request.behavior_node, request.candidate_node])
    return set(torch.where(moved)[0].tolist()), set(network.attention.path[nodes].flatten().tolist()) - {0}, network


@pytest.mark.parametrize("tables", ["dense", "touched"])
def test_the_attention_table_learns_about_rows_that_were_not_retrieved(tables):
    history = make_history(40)
    moved, retrieved, _ = moved_attention_rows(None, tables, history)
    assert moved == retrieved  # a control: the network's own loss reaches no further
    moved, retrieved, network = moved_attention_rows(make_auxiliary(), tables, history)
    whole = set(network.attention.path[history.rows.node].flatten().tolist()) - {0}
    assert whole - retrieved
    assert moved == retrieved | whole


def test_the_auxiliary_model_learns_and_equal_seeds_give_equal_weights():
    found = []
    for _ in range(2):
        auxiliary = make_auxiliary(seed=3)
        before = {name: p.detach().clone() for name, p in auxiliary.named_parameters()}
        _, _, network = moved_attention_rows(auxiliary, "dense", make_history(40))
        after = dict(auxiliary.named_parameters())
        unmoved = {name for name in before if torch.equal(before[name], after[name])}
        assert not unmoved
        assert not [name for name in network.state_dict() if "auxiliary" in name]
        found.append([*network.state_dict().values(), *after.values()])
        torch.rand(5)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_weight_is_that_of_the_loss():
    gradients = []
    for weight in (1.0, 3.0):
        network, auxiliary = make_network(CONFIG), make_auxiliary(weight)
        examples = example_of(make_request([0, 0, 0]), make_history(7))
        config = TrainConfig(max_epochs=1, averaging=0.0, tables="touched")
        train(network, examples, examples, TARGETS.names, [1.0, 1.0], config, auxiliary=auxiliary)
        gradients.append(network.attention.node.weight.grad.to_dense())
    # Nothing was retrieved: the attention table hears of the auxiliary loss alone.
    assert torch.count_nonzero(gradients[0])
    torch.testing.assert_close(gradients[1], 3 * gradients[0], rtol=1e-5, atol=1e-8)


def test_examples_without_histories_are_a_mistake():
    examples = example_of(make_request([1, 1, 1]))
    with pytest.raises(AssertionError, match="without histories"):
        train(
            make_network(CONFIG), examples, examples, TARGETS.names, [1, 1], TrainConfig(), auxiliary=make_auxiliary()
        )


def test_of_the_packaged_presets_dare_alone_has_an_auxiliary_loss():
    having = {name: load_preset(name).auxiliary for name in preset_names()}
    assert {name for name, options in having.items() if options} == {"dare"}
    assert (having["dare"].weight, having["dare"].newest) == (1.0, None)


def test_any_preset_with_an_auxiliary_loss_teaches_the_attention_table():
    pool = load_preset("pool")
    assert not pool.reads_attention
    assert pool.model_copy(update={"auxiliary": AuxiliaryLoss()}).reads_attention
