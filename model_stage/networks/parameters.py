"""How each parameter of a network is trained: every module that has parameters says in which group they are.

role        optimiser             penalty                 what
attention   RowAdagrad            none                    the attention table, which soft search uses
table       Adam or SparseAdam    `embedding_l2`          other tables with a row per node, id or word
block       Adam                  none                    blocks, their small positional tables among them
head        AdamW                 `weight_decay`          towers and experts
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from model_stage.errors import ParameterGroupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

Role = Literal["attention", "table", "block", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Modules whose parameters are trained alike."""

    role: Role
    modules: tuple[nn.Module, ...]


def trainable_parameters(model: nn.Module, groups: Sequence[ParameterGroup]) -> dict[Role, dict[str, nn.Parameter]]:
    """Gives the parameters of a model that require a gradient, by their role and by their name in the model.

    Raises:
        ParameterGroupError: One of them is in no group or in more than one; names it.
    """
    names = {weight: name for name, weight in model.named_parameters() if weight.requires_grad}
    grouped: list[tuple[Role, nn.Parameter]] = [
        (group.role, weight)
        for group in groups
        for module in group.modules
        for weight in module.parameters()
        if weight in names
    ]
    times = Counter(weight for _, weight in grouped)
    for weight, name in names.items():
        if times[weight] != 1:
            raise ParameterGroupError(f"parameter {name!r} is in {times[weight]} groups of parameters, not in one")
    found: dict[Role, dict[str, nn.Parameter]] = {group.role: {} for group in groups}
    for role, weight in grouped:
        found[role][names[weight]] = weight
    return found
