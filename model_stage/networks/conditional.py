"""Targets that are conditional on others: the tower says p(conversion | click), the network answers p(conversion).

    p = p(condition) p(target | condition)        logit p = -log( e^-a + e^-b + e^-(a + b) )

with a and b the logits of the two factors: nothing is ever 0 or 1 inside. The loss is that of the product over all
impressions, clicked or not, so the conversion given a click is learned without the bias of looking at clicks only.
Source: ESMM (Ma et al., SIGIR 2018, arXiv 1804.07931). A product with a condition that is itself conditional: a chain.

Legend: B candidates, T targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def joint_logits(tower_BT: Tensor, given: Sequence[int | None]) -> Tensor:
    """Gives the logit of every target's own probability, never above that of its condition. (B, T).

    Args:
        tower_BT: Of each target given its condition; of a target without one, of the target itself.
        given: Column of each target's condition; conditions form no cycle.
    """
    found: dict[int, Tensor] = {}

    def joint(target: int) -> Tensor:
        if target not in found:
            condition, own_B = given[target], tower_BT[:, target]
            found[target] = own_B if condition is None else logit_of_product(joint(condition), own_B)
        return found[target]

    return torch.stack([joint(target) for target in range(len(given))], dim=1)


def logit_of_product(a: Tensor, b: Tensor) -> Tensor:
    """Gives the logit of sigmoid(a) * sigmoid(b), finite wherever a + b is."""
    return -torch.logsumexp(torch.stack([-a, -b, -a - b]), dim=0)
