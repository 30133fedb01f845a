"""Decoupled-side-info TIN and stacked TIN are TIN where they should be, and more where they should be more."""

from __future__ import annotations

from dataclasses import replace

import torch

from model_stage.blocks.decoupled_side_info import DecoupledSideInfoTIN, SubsetEmbedding
from model_stage.blocks.stacked_tin import StackedTIN
from tests.worlds.pair_blocks import DIM, POSITIONS, make_block, make_input, outputs_of


def check_is_tin(found, tin_found):
    expected = tin_found.representation_BR, tin_found.mass_BW, tin_found.weight_WM.T
    for ours, theirs in zip(outputs_of(found), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_stacked_with_one_layer_is_tin():
    tin, x = make_block("tin"), make_input([4, 0, 3], 5)
    stacked = StackedTIN(POSITIONS, DIM, DIM, num_layers=1)
    stacked.load_state_dict(tin.state_dict())
    check_is_tin(stacked(x), tin(x))


def test_the_first_of_three_layers_is_tin_and_the_second_asks_something_else():
    tin, stacked, x = make_block("tin"), make_block("stacked"), make_input([4, 0, 3], 5)
    stacked.load_state_dict(tin.state_dict(), strict=False)
    found, expected = stacked(x), tin(x)
    torch.testing.assert_close(found.representation_BR[:, :DIM], expected.representation_BR)
    assert not torch.allclose(found.weight_WM.T[:, 1], found.weight_WM.T[:, 0], atol=1e-2)


def test_a_fused_question_hears_every_earlier_layer_and_the_candidate_again():
    """The third question: what the first layer found enters it directly, and so does the candidate."""
    block = make_block("stacked_fused").attention_next[1]
    first, second, candidate = (torch.randn(DIM, requires_grad=True) for _ in range(3))
    block([first, second], candidate).square().sum().backward()
    assert all(bool(each.grad.abs().sum() > 0) for each in (first, second, candidate))
    assert sum(p.numel() for p in block.fuse.parameters()) == 2 * DIM * (2 * 3 * DIM + DIM)


def test_a_later_layer_hears_what_an_earlier_one_found():
    """The second layer's weights move when a representation does; the first layer's do not."""
    stacked, x = make_block("stacked"), make_input([4], 5)
    weight_MW = stacked(x).weight_WM.T
    with torch.no_grad():
        moved = stacked(replace(x, representation_UR=x.representation_UR + 1.0)).weight_WM.T
    assert torch.equal(moved[:, 0], weight_MW[:, 0])
    assert not torch.allclose(moved[:, 1], weight_MW[:, 1], atol=1e-3)


def test_side_info_with_one_subset_of_all_fields_is_tin():
    tin, x = make_block("tin"), make_input([4, 0, 3], 5)
    block = DecoupledSideInfoTIN(POSITIONS, 1, DIM, DIM)
    names = {key.replace("attention_positions.", "subset_positions.0."): v for key, v in tin.state_dict().items()}
    block.load_state_dict(names)
    subset = SubsetEmbedding(attention_UA=x.attention_UA, attention_BA=x.attention_BA)
    check_is_tin(block(x, [subset]), tin(x))


def test_side_info_subsets_do_not_hear_one_another():
    """A field that only the second subset has moves the second attention and not the first."""
    block, x = make_block("side_info"), make_input([5], 5)
    before = block(x).weight_WM.T
    moved = x.attention_UA.detach().clone()
    moved[:, 3] += torch.linspace(-2, 2, 5)
    after = block(replace(x, attention_UA=moved)).weight_WM.T
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1], atol=1e-2)
