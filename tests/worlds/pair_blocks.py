"""Every block over pairs, small, with random inputs for it and what its laws compare."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import nn

from model_stage.blocks.dare import DARE
from model_stage.blocks.decoupled_side_info import DecoupledSideInfoTIN, SubsetEmbedding
from model_stage.blocks.din import DIN
from model_stage.blocks.eta import ETA
from model_stage.blocks.pairs import AttentionInput
from model_stage.blocks.pool import MeanPool
from model_stage.blocks.sim_attention import SIMAttention
from model_stage.blocks.stacked_tin import StackedTIN
from model_stage.blocks.tin import TIN
from model_stage.blocks.twin import TWIN
from model_stage.config.targets import IntervalPosition, MatchLevelPosition, RankPosition

POSITIONS = (
    RankPosition(kind="rank", buckets=4),
    IntervalPosition(kind="interval", buckets=3),
    MatchLevelPosition(kind="match_level", levels=2),
)
DIM = 4
SUBSETS = (slice(0, 3), slice(1, 4))


class SideInfo(nn.Module):
    """Decoupled-side-info TIN whose subsets are columns of the attention embeddings."""

    def __init__(self, positions):
        super().__init__()
        self.block = DecoupledSideInfoTIN(positions, 2, 3, DIM)
        self.out_dim = self.block.out_dim

    def forward(self, x):
        return self.block(x, self.split(x))

    def reference(self, x):
        return self.block.reference(x, self.split(x))

    @staticmethod
    def split(x):
        return [SubsetEmbedding(attention_UA=x.attention_UA[:, s], attention_BA=x.attention_BA[:, s]) for s in SUBSETS]


BLOCKS = {
    "tin": lambda positions: TIN(positions, DIM, DIM),
    "side_info": SideInfo,
    "stacked": lambda positions: StackedTIN(positions, DIM, DIM, num_layers=3),
    "stacked_fused": lambda positions: StackedTIN(positions, DIM, DIM, num_layers=3, fusion="all"),
    "dare": lambda positions: DARE(positions, DIM, 2),
    "din": lambda positions: DIN(DIM, hidden=(5, 3)),
    "sim": lambda positions: SIMAttention(positions, DIM, 2, 2, 3),
    "twin": lambda positions: TWIN(positions, DIM, 2, 2, 3),
    "eta": lambda positions: ETA(SIMAttention(positions, DIM, 2, 2, 3), DIM, 8, 2),
    "pool": lambda positions: MeanPool(DIM),
}
TWO_TABLE_SETS = {"tin", "side_info", "stacked", "stacked_fused", "dare"}
NO_CANDIDATE = {"pool"}
"""Blocks whose answer does not depend on the candidate."""

ragged_lengths = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def make_block(name: str, seed: int = 0, positions=POSITIONS) -> nn.Module:
    """Gives the block with parameters that all matter."""
    torch.manual_seed(seed)
    block = BLOCKS[name](positions)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def make_input(lengths, num_behaviors, *, seed=0, dtype=torch.float32, scale=1.0) -> AttentionInput:
    """Gives random embeddings that need gradients, and random pairs."""
    generator = torch.Generator().manual_seed(seed)
    num_pairs = sum(lengths)

    def draw(rows):
        values = scale * torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
        return values.to(torch.bfloat16).to(dtype).requires_grad_()

    return AttentionInput(
        attention_UA=draw(num_behaviors),
        attention_BA=draw(len(lengths)),
        representation_UR=draw(num_behaviors),
        representation_BR=draw(len(lengths)),
        behavior_M=torch.randint(max(num_behaviors, 1), (num_pairs,), generator=generator).int(),
        pair_offsets=torch.tensor([0, *itertools.accumulate(lengths)]),
        buckets={p: torch.randint(p.buckets, (num_pairs,), generator=generator) for p in POSITIONS},
    )


def leaves_of(block: nn.Module, x: AttentionInput) -> list[torch.Tensor]:
    """Gives all that gradients reach."""
    return [x.attention_UA, x.attention_BA, x.representation_UR, x.representation_BR, *block.parameters()]


def outputs_of(found) -> list[torch.Tensor]:
    """Gives representation, mass and weights, the candidates or their pairs below one another."""
    return [found.representation_BR, found.mass_BW, found.weight_WM.T]


def gradients(outputs, leaves) -> list[torch.Tensor]:
    """Gives the gradients of a mixture of everything that is in the outputs."""
    mixed = sum((o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o)).sum() for o in outputs)
    if not mixed.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(mixed, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


def choose(x: AttentionInput, candidates: list[int], behaviors: list[int]) -> AttentionInput:
    """Gives the input with these candidates in this order, the union in another order (`behaviors` a permutation)."""
    pairs = torch.cat([torch.nonzero(x.candidate_M == c).flatten() for c in candidates])
    lengths = torch.stack([(x.candidate_M == c).sum() for c in candidates])
    order, chosen = torch.tensor(behaviors), torch.tensor(candidates)
    return replace(
        x.take(pairs),
        behavior_M=torch.argsort(order)[x.behavior_M[pairs]].int(),
        pair_offsets=torch.cat([lengths[:0], torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        attention_UA=x.attention_UA[order],
        representation_UR=x.representation_UR[order],
        attention_BA=x.attention_BA[chosen],
        representation_BR=x.representation_BR[chosen],
    )
