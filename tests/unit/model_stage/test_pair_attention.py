"""The kernel of attention over pairs against its form in torch, that against the formula, and both at the edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from model_stage.blocks.pair_attention import attend, attend_padded
from model_stage.blocks.pairs import AttentionInput
from model_stage.config.targets import RankPosition
from tests.worlds.pair_attention import Sizes, gradients, inputs

sizes = st.builds(
    lambda lengths, keys, values, more, rows, buckets, encodings: Sizes(
        lengths=lengths,
        keys=keys,
        values=values,
        attentions=keys * values * more,
        rows=rows,
        buckets=buckets,
        encodings=encodings if buckets else 0,
    ),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    keys=st.integers(1, 3),
    values=st.integers(1, 3),
    more=st.integers(1, 2),
    rows=st.integers(1, 6),
    buckets=st.integers(0, 5),
    encodings=st.integers(0, 3),
)


@given(sizes=sizes, seed=st.integers(0, 2**31), scale=st.sampled_from([0.0, 0.3, 1.0, 5.0]))
@settings(max_examples=60)
def test_the_kernel_does_what_torch_does_in_outputs_and_gradients(sizes, seed, scale):
    x = inputs(sizes, seed, scale)
    fast, plain = attend(*x), attend_padded(*x)
    # A rounded score moves a weight in proportion to the score.
    tolerance = 1e-5 * max(1.0, scale)
    for got, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=tolerance)
    for got, expected in zip(gradients(fast, x[:4]), gradients(plain, x[:4]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=10 * tolerance)


@given(sizes=sizes, seed=st.integers(0, 2**31))
@settings(max_examples=30)
def test_torch_does_what_the_formula_says(sizes, seed):
    query, key, bias, value, behavior, offsets, bucket = inputs(sizes, seed, dtype=torch.float64)
    pooled, share, mass, weight = attend(query, key, bias, value, behavior, offsets, bucket)
    per_key, per_value = len(query) // key.shape[1], len(query) // value.shape[1]
    for w in range(len(query)):
        for b, (start, end) in enumerate(itertools.pairwise(offsets)):
            rows = behavior[start:end].long()
            score = key[rows, w // per_key] @ query[w, b]
            for bucket_M in bucket:
                score = score + bias[w, b, bucket_M[start:end].long()]
            a = torch.softmax(score, dim=0)
            torch.testing.assert_close(weight[w, start:end], a)
            torch.testing.assert_close(pooled[w, b], (a[:, None] * value[rows, w // per_value]).sum(0))
            torch.testing.assert_close(mass[w, b], torch.log(1 + score.exp().sum()))
            for n in range(bias.shape[2]):
                mine = sum(((bucket_M[start:end] == n) * a).sum() for bucket_M in bucket)
                torch.testing.assert_close(share[w, b, n], torch.as_tensor(mine, dtype=torch.float64))


def test_gradients_are_those_of_small_steps():
    x = inputs(Sizes(lengths=[3, 0, 5], keys=1, values=2, attentions=2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *floats: attend(*floats, *x[4:]), tuple(x[:4]))


def test_the_operation_keeps_torchs_rules():
    x = inputs(Sizes(lengths=[3, 0, 5]))
    attend(*x)
    torch.library.opcheck(
        torch.ops.lookback.pair_attention, tuple(x), test_utils=("test_schema", "test_autograd_registration")
    )


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e15])
def test_extreme_scores_overflow_nowhere(scale):
    x = inputs(Sizes(lengths=[6, 1, 4]), scale=scale)
    found = attend(*x)
    for values in (*found, *gradients(found, x[:4])):
        assert torch.isfinite(values).all()
    torch.testing.assert_close(found[3].split([6, 1, 4], dim=1)[0].sum(1), torch.ones(2))


def test_equal_pairs_share_the_attention_and_ties_are_ties():
    query, key, bias, value, _, offsets, _ = inputs(Sizes(lengths=[4, 2], rows=1))
    behavior, bucket = torch.zeros(6, dtype=torch.int32), torch.zeros((2, 6), dtype=torch.int32)
    _, share, _, weight = attend(query, key, bias, value, behavior, offsets, bucket)
    torch.testing.assert_close(weight, torch.tensor([0.25] * 4 + [0.5] * 2).expand(2, 6))
    torch.testing.assert_close(share[:, :, 0], torch.full((2, 2), 2.0))
    assert torch.count_nonzero(share[:, :, 1:]) == 0


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python refuses to convert what is not finite")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(bad):
    x = inputs(Sizes(lengths=[3, 2], attentions=1))
    x[0] = x[0].detach().clone()
    x[0][0, 0, 0] = bad
    pooled, _, mass, _ = attend(*x)
    assert not torch.isfinite(pooled[0, 0]).all()
    assert not torch.isfinite(mass[0, 0])
    assert torch.isfinite(pooled[0, 1]).all()


def test_bfloat16_is_attended_over_in_full_precision():
    x = inputs(Sizes(lengths=[7, 0, 3]))
    half = [values.detach().to(torch.bfloat16) for values in x[:4]]
    for got, expected in zip(attend(*half, *x[4:]), attend(*(v.float() for v in half), *x[4:]), strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)


def test_threads_of_torch_and_views_change_nothing():
    """Columns that are cut out of wider ones are read as they stand."""
    query, key, bias, value, *pairs = inputs(Sizes(lengths=[4, 3]))
    wide = torch.cat([value, value], dim=2)
    for got, expected in zip(
        attend(query, key, bias, wide[:, :, :3], *pairs), attend(query, key, bias, value, *pairs), strict=True
    ):
        assert torch.equal(got, expected)


def test_a_bias_of_another_width_than_the_encodings_is_refused():
    """The kernel checks no bounds."""
    nothing = torch.zeros((1, 0))
    x = AttentionInput(
        attention_UA=nothing,
        attention_BA=nothing,
        representation_UR=torch.zeros((1, 2)),
        representation_BR=torch.zeros((1, 2)),
        behavior_M=torch.zeros(1, dtype=torch.int32),
        pair_offsets=torch.tensor([0, 1]),
        buckets={RankPosition(kind="rank", buckets=4): torch.zeros(1, dtype=torch.int64)},
    )
    with pytest.raises(ValueError, match=r"^bias_WBN: 3 columns"):
        x.attend(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.zeros(1, 1, 3), torch.zeros(1, 1, 2))
