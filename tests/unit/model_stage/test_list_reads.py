"""SDIM and the memory bank: whole lists, read by candidates; work of a list done once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model_stage.blocks.memory_bank import MemoryBank
from model_stage.blocks.pairs import list_pairs
from model_stage.blocks.sdim import SDIM
from model_stage.blocks.sequence import ListInput
from model_stage.config.targets import RankPosition

DIM = 4
POSITIONS = (RankPosition(kind="rank", buckets=3), RankPosition(kind="rank", buckets=2))
BLOCKS = {"sdim": lambda: SDIM(DIM, groups=5, bits=2), "memory": lambda: MemoryBank(POSITIONS, DIM, 3)}
every_block = pytest.mark.parametrize("name", BLOCKS)


def make_block(name, seed=0):
    torch.manual_seed(seed)
    block = BLOCKS[name]()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.7)
    return block


def make_input(lengths, list_of, *, seed=0, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    num_rows = sum(lengths)

    def draw(rows):
        values = scale * torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
        return values.to(torch.bfloat16).to(dtype).requires_grad_()

    return ListInput(
        values_ND=draw(num_rows),
        offsets=torch.tensor([0, *lengths]).cumsum(0),
        candidate_BD=draw(len(list_of)),
        list_B=torch.tensor(list_of),
        interval_ms_N=torch.zeros(num_rows, dtype=torch.int64),
        buckets=[torch.randint(p.buckets, (num_rows,), generator=generator) for p in POSITIONS],
    )


def gradients(output, block, x):
    mixed = (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum()
    leaves = [x.values_ND, x.candidate_BD, *block.parameters()]
    if not mixed.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(mixed, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


@st.composite
def inputs(draw):
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    list_of = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return make_input(lengths, list_of, seed=draw(st.integers(0, 2**31)), dtype=dtype)


@every_block
@settings(max_examples=20)
@given(x=inputs())
def test_fast_path_equals_the_formulas_in_outputs_and_gradients(name, x):
    dtype = x.values_ND.dtype
    block = make_block(name).to(dtype)
    fast, plain = block(x).representation_BD, block.reference(x)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(fast, plain, **tolerance)
    tolerance = {key: 10 * value for key, value in tolerance.items()}
    for ours, theirs in zip(gradients(fast, block, x), gradients(plain, block, x), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@every_block
def test_a_candidate_stands_alone(name):
    """I8: other candidates and other lists leave an answer as it is; equal lists, shared or not, answer alike."""
    x, block = make_input([3, 0, 4], [2, 0, 2, 1]), make_block(name)
    expected = block(x).representation_BD
    alone = ListInput(
        values_ND=torch.cat([x.values_ND[3:], x.values_ND[3:]]),
        offsets=torch.tensor([0, 4, 8]),
        candidate_BD=x.candidate_BD[[2, 0, 2]],
        list_B=torch.tensor([0, 1, 1]),
        interval_ms_N=torch.zeros(8, dtype=torch.int64),
        buckets=[torch.cat([b[3:], b[3:]]) for b in x.buckets],
    )
    torch.testing.assert_close(block(alone).representation_BD, expected[[2, 0, 2]], rtol=1e-5, atol=1e-6)


@every_block
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_odd_and_extreme_inputs_stay_sane(name, scale):
    x, block = make_input([0, 1, 5], [0, 1, 2, 0], scale=scale), make_block(name)
    found = block(x)
    output, weight = found.representation_BD, found.weight_M
    assert output.shape == (4, block.out_dim)
    for values in (output, weight, *gradients(output, block, x)):
        assert torch.isfinite(values).all()
    assert torch.count_nonzero(output[[0, 3]]) == 0
    assert weight.shape == (6,)


@every_block
def test_nobody_has_any_behavior(name):
    x, block = make_input([0], [0, 0]), make_block(name)
    found = block(x)
    assert torch.count_nonzero(found.representation_BD) == 0
    assert found.weight_M.shape == (0,)


@every_block
def test_bfloat16_stays_near_float32(name):
    """Within 0.03 of the largest value: 8 bits of mantissa are 0.004 per rounding."""
    x, block = make_input([7, 0, 3], [0, 1, 2, 0], scale=0.5), make_block(name)
    for parameter in block.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    expected = block(x).representation_BD
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = block(x).representation_BD
    half = {key: getattr(x, key).detach().to(torch.bfloat16) for key in ("values_ND", "candidate_BD")}
    got = block.to(torch.bfloat16)(replace(x, **half)).representation_BD
    assert got.dtype == torch.bfloat16
    for ours in (mixed, got.float()):
        assert (ours - expected).abs().max() <= 0.03 * expected.abs().max()


@settings(max_examples=20)
@given(x=inputs())
def test_sdim_weights_are_what_its_sum_is_made_of(x):
    found = make_block("sdim")(x)
    row_M, candidate_M = list_pairs(x.offsets, x.list_B)
    expected = torch.zeros_like(x.candidate_BD)
    expected = expected.index_add(0, candidate_M, found.weight_M[:, None] * x.values_ND[row_M])
    torch.testing.assert_close(found.representation_BD, expected, rtol=1e-4, atol=1e-5)
    assert found.rest_B.tolist() == [0.0] * len(x.list_B)


def test_sdim_reads_the_behavior_that_equals_the_candidate_and_not_its_opposite():
    x, block = make_input([2], [0]), make_block("sdim")
    candidate = x.candidate_BD.detach()
    x = replace(x, values_ND=torch.cat([candidate, -candidate]))
    found = block(x)
    torch.testing.assert_close(found.representation_BD, nn.functional.normalize(candidate))
    torch.testing.assert_close(found.weight_M, torch.tensor([1 / float(candidate.norm()), 0.0]))


@settings(max_examples=20)
@given(x=inputs())
def test_memory_weights_sum_to_one_and_make_its_answer(x):
    dtype = x.values_ND.dtype
    block = make_block("memory").to(dtype)
    row_M, candidate_M = list_pairs(x.offsets, x.list_B)
    found = block(x)
    weight_M = found.weight_M
    assert not weight_M.requires_grad
    total = torch.zeros(len(x.list_B), dtype=dtype).index_add(0, candidate_M, weight_M)
    length_B = (x.offsets[1:] - x.offsets[:-1])[x.list_B]
    torch.testing.assert_close(total, (length_B > 0).to(dtype), rtol=0, atol=1e-5)
    assert found.rest_B.tolist() == (length_B == 0).float().tolist()
    value_MD = block.value(x.values_ND + block.positions.encode(x.buckets))[row_M]
    expected = torch.zeros_like(x.candidate_BD).index_add(0, candidate_M, weight_M[:, None] * value_MD)
    torch.testing.assert_close(found.representation_BD, expected, rtol=1e-4, atol=1e-5)
