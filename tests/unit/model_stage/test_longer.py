"""LONGER: the plain transformer it is without its savings, the merge, the cache, causality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model_stage.blocks.longer import Longer
from model_stage.blocks.longer_tokens import Tokens
from tests.worlds.list_blocks import DIM, longer_options, make_lists


def make_block(**options):
    torch.manual_seed(0)
    block = Longer(DIM, longer_options(**options))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def plain_layer(weights, name, rows, visible):
    """One pre-norm layer of two heads over all tokens, in NumPy."""

    def norm(values, which):
        centred = values - values.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}{which}.weight"] + weights[f"{name}{which}.bias"]

    normed = norm(rows, "attention_norm")
    query, key, value = (normed @ weights[f"{name}to_{which}.weight"].T for which in ("query", "key", "value"))
    heads = []
    for head in np.split(np.arange(rows.shape[1]), 2):
        logits = np.where(visible, query[:, head] @ key[:, head].T / np.sqrt(len(head)), -np.inf)
        attention = np.exp(logits - logits.max(1, keepdims=True))
        heads.append(attention / attention.sum(1, keepdims=True) @ value[:, head])
    rows = rows + np.hstack(heads) @ weights[name + "to_out.weight"].T + weights[name + "to_out.bias"]
    hidden = norm(rows, "feed_forward_norm") @ weights[name + "feed_forward.0.weight"].T
    hidden = np.maximum(hidden + weights[name + "feed_forward.0.bias"], 0)
    return rows + hidden @ weights[name + "feed_forward.2.weight"].T + weights[name + "feed_forward.2.bias"]


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_no_merge_and_all_tokens_as_queries_is_plain_attention(layers):
    """Tokens [user, class, 5 rows, candidate] through every layer whole, who sees whom written out by hand."""
    block, lists = make_block(merge=1, recent=9, layers=layers), make_lists([5], [0])
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in block.named_parameters()}

    def linear(values, name):
        return values.detach().numpy() @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    minutes = lists.x.interval_ms_N.numpy() / 60_000
    bucket = (np.log1p(minutes) / np.log1p(365 * 24 * 60) * 32).astype(int)
    timed = np.hstack([lists.x.values_ND.detach().numpy(), weights["tokens.interval.weight"][bucket]])
    rows = timed @ weights["tokens.join.weight"].T + weights["tokens.join.bias"]
    rows = rows + weights["tokens.rank"][[4, 3, 2, 1, 0]]
    tokens = [linear(lists.user_LD, "to_user"), weights["class_token"][None], rows]
    tokens = np.vstack([*tokens, linear(lists.x.candidate_BD, "to_candidate")])
    picture = """
        1 1  1 1 1 1 1  0
        1 1  1 1 1 1 1  0
        0 0  1 0 0 0 0  0
        0 0  1 1 0 0 0  0
        0 0  1 1 1 0 0  0
        0 0  1 1 1 1 0  0
        0 0  1 1 1 1 1  0
        1 1  1 1 1 1 1  1
    """
    visible = np.array(picture.split(), dtype=int).reshape(8, 8).astype(bool)
    for layer in range(layers + 1):
        tokens = plain_layer(weights, f"layers.{layer}.", tokens, visible)
    centred = tokens[-1] - tokens[-1].mean()
    expected = centred / np.sqrt((centred**2).mean() + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
    found = block(lists.x, lists.user_LD)
    np.testing.assert_allclose(found.representation_BD[0].detach().numpy(), expected, atol=2e-5)


def test_rows_are_merged_from_the_newest_and_the_oldest_group_may_be_short():
    tokens = Tokens(DIM, merge=2, heads=2)
    group_N, count_L = tokens.groups(torch.tensor([5, 0, 2]))
    assert group_N.tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert count_L.tolist() == [3, 0, 1]
    x = make_lists([5], [0]).x
    merged_SD, offsets = tokens(x.values_ND, x.offsets, x.interval_ms_N)
    assert offsets.tolist() == [0, 3]
    assert (merged_SD == 0).tolist() == [[True] * DIM + [False] * DIM] + [[False] * 2 * DIM] * 2


def test_a_cached_user_scores_new_candidates_as_if_all_were_done_anew():
    block, lists = make_block(merge=2, recent=2, layers=2), make_lists([7, 0, 4], [0, 2, 1, 0, 0, 2])
    x = lists.x
    cache = block.encode_user(x.values_ND, x.offsets, x.interval_ms_N, lists.user_LD)
    whole = block.reference(x, lists.user_LD)
    for candidates in ([0], [5, 1], [2, 3, 4]):
        found = block.score(cache, x.candidate_BD[candidates], x.list_B[candidates])
        torch.testing.assert_close(found.representation_BD, whole.representation_BD[candidates], rtol=1e-4, atol=1e-5)
    assert cache.layers[0].token_offsets.tolist() == [0, 4, 4, 6]
    assert cache.layers[1].token_offsets.tolist() == [0, 2, 2, 4]


def test_a_planted_future_row_changes_no_merged_token_before_its_own():
    block, lists = make_block(merge=2, recent=9, layers=2), make_lists([8], [0])
    x = lists.x
    planted_ND = x.values_ND.detach().clone()
    planted_ND[5] += 100.0
    before, after = (
        block.encode_user(values_ND, x.offsets, x.interval_ms_N, lists.user_LD)
        for values_ND in (x.values_ND, planted_ND)
    )
    for ours, theirs in zip(before.layers, after.layers, strict=True):
        changed = (ours.tokens.key_NHE != theirs.tokens.key_NHE).flatten(1).any(1)
        assert changed[:2].tolist() == [False, False]
        assert changed[2]


@pytest.mark.parametrize(("option", "value"), [("merge", 0), ("recent", 0), ("layers", -1), ("heads", 0), ("heads", 3)])
def test_config_names_what_is_wrong(option, value):
    with pytest.raises(ValueError, match=option):
        Longer(DIM, longer_options(**{option: value}))
