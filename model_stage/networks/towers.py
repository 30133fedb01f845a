"""Towers: perceptrons of one shape, one after another or all targets' as one product a layer.

Legend: T towers, B candidates, X input width, O output width of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.blocks.pairs import typed

if TYPE_CHECKING:
    from collections.abc import Sequence


def tower(width: int, hidden: Sequence[int], num_outputs: int) -> nn.Sequential:
    """Gives a perceptron with ReLU between its layers."""
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), nn.ReLU()]
        width = out
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def side_by_side(towers: nn.ModuleList, x_TBX: Tensor) -> Tensor:
    """Runs perceptrons of one shape (`tower`), each on its own rows, as one product a layer. (T, B, outputs)."""
    for layers in zip(*(each.children() for each in towers), strict=True):
        linears = typed(layers, nn.Linear)
        if linears:
            weight_TXO = torch.stack([one.weight for one in linears]).transpose(1, 2)
            bias_T1O = torch.stack([one.bias for one in linears])[:, None]
            x_TBX = torch.baddbmm(bias_T1O, x_TBX, weight_TXO)
        else:
            x_TBX = layers[0](x_TBX)
    return x_TBX
