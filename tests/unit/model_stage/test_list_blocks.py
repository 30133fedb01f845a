"""The laws of every sequence block: fast equals plain, a candidate stands alone, nothing odd breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_stage.blocks.pairs import list_pairs
from tests.worlds.list_blocks import BLOCKS, choose, gradients, leaves_of, make_block, make_lists, ragged

every_block = pytest.mark.parametrize("name", BLOCKS)
OUTPUTS = ("representation_BD", "weight_M", "rest_B")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@every_block
@settings(max_examples=12)
@given(lists=ragged(), seed=st.integers(0, 2**31))
@example(lists=make_lists([7, 5, 0, 3, 4], [1, 0, 0, 2, 3, 4, 1, 1]), seed=0)  # padded rows and padded queries
def test_fast_path_equals_the_formulas_in_outputs_and_gradients(name, lists, seed):
    dtype = lists.x.values_ND.dtype
    block = make_block(name, seed).to(dtype)
    fast, plain = block(lists), block.reference(lists)
    # The sums run in another order: float64 shows that it is that and nothing else.
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for output in OUTPUTS:
        torch.testing.assert_close(getattr(fast, output), getattr(plain, output), **tolerance)
    leaves = leaves_of(block, lists)
    ours, theirs = (torch.cat([g.flatten() for g in gradients(found, leaves)]) for found in (fast, plain))
    # Small gradients are sums of large ones: the error is that of the largest.
    bound = (1e-9 if dtype == torch.float64 else 5e-5) * max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@every_block
@settings(max_examples=10)
@given(lists=ragged(dtypes=[torch.float64]), data=st.data())
def test_a_candidate_stands_alone(name, lists, data):
    """I8: batch-mates, their order, other lists, and whether an equal list is shared leave an answer as it is."""
    block, x = make_block(name).double(), lists.x
    chosen = data.draw(st.lists(st.sampled_from(range(len(x.list_B))), min_size=1, max_size=4, unique=True))
    found, alone = block(lists), block(choose(lists, chosen))
    _, candidate_M = list_pairs(x.offsets, x.list_B)
    pairs = torch.cat([torch.nonzero(candidate_M == candidate).flatten() for candidate in chosen])
    expected = {"representation_BD": chosen, "weight_M": pairs, "rest_B": chosen}
    for output, rows in expected.items():
        torch.testing.assert_close(getattr(alone, output), getattr(found, output)[rows], rtol=1e-9, atol=1e-9)


def check_sane(name, block, lists):
    found, x = block(lists), lists.x
    outputs = [getattr(found, output) for output in OUTPUTS]
    for values in (*outputs, *gradients(found, leaves_of(block, lists))):
        assert torch.isfinite(values).all()
    _, candidate_M = list_pairs(x.offsets, x.list_B)
    assert found.weight_M.shape == candidate_M.shape
    if name != "hstu":
        total_B = found.rest_B.index_add(0, candidate_M, found.weight_M)
        torch.testing.assert_close(total_B, torch.ones_like(total_B), rtol=0, atol=1e-5)


@every_block
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(("lengths", "list_of"), [([0], [0]), ([1], [0, 0]), ([3, 0, 9, 1, 0], [2, 0, 2, 1, 3])])
def test_odd_and_extreme_inputs_stay_sane(name, lengths, list_of, scale):
    check_sane(name, make_block(name), make_lists(lengths, list_of, scale=scale))


@every_block
def test_identical_behaviors(name):
    lists = make_lists([6], [0])
    same = replace(
        lists.x,
        values_ND=lists.x.values_ND[:1].expand(6, -1),
        interval_ms_N=torch.full((6,), 5),
        buckets=[torch.zeros_like(bucket_N) for bucket_N in lists.x.buckets],
    )
    check_sane(name, make_block(name), replace(lists, x=same))


@every_block
def test_of_every_parameter_something_depends(name):
    """A gradient for each, so that none is forgotten and distributed training waits for none."""
    block = make_block(name)
    lists = make_lists([7, 3, 5, 6, 7], [0, 2, 0, 1, 3, 4])
    found = gradients(block(lists), list(block.parameters()))
    unused = [key for (key, _), gradient in zip(block.named_parameters(), found, strict=True) if not gradient.any()]
    assert unused == []


BF16_BOUND = 0.05
"""Largest error of bfloat16 relative to the largest value of the output, after two layers of normalisations: 8 bits of
mantissa are 0.004 per rounding, and a layer rounds about ten times."""


@every_block
@pytest.mark.parametrize("mixed", [False, True], ids=["all bfloat16", "autocast"])
def test_bfloat16_stays_near_float32(name, mixed):
    lists = make_lists([7, 0, 3, 6], [0, 1, 2, 0, 3], scale=0.5)
    block = make_block(name)
    for parameter in block.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    expected = block(lists)
    if mixed:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = block(lists)
    else:
        half = {key: getattr(lists.x, key).detach().to(torch.bfloat16) for key in ("values_ND", "candidate_BD")}
        x = replace(lists.x, **half)
        got = block.to(torch.bfloat16)(replace(lists, x=x, user_LD=lists.user_LD.to(torch.bfloat16)))
        assert name == "sasrec" or got.representation_BD.dtype == torch.bfloat16
    assert got.weight_M.dtype == torch.float32
    for output in OUTPUTS:
        theirs = getattr(expected, output)
        assert (getattr(got, output).float() - theirs).abs().max() <= BF16_BOUND * theirs.abs().max()
