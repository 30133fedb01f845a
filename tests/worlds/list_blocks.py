"""Every sequence block, small, with random lists for it and what its laws compare."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import nn

from model_stage.blocks.din import DIN
from model_stage.blocks.hierarchy import Hierarchy, HierarchyConfig
from model_stage.blocks.history import Answer
from model_stage.blocks.hstu import HSTU, HSTUConfig
from model_stage.blocks.linear_attention import LinearAttention
from model_stage.blocks.longer import Longer, LongerConfig
from model_stage.blocks.pairs import AttentionInput, list_pairs
from model_stage.blocks.sasrec import TargetDecoupledSASRec
from model_stage.blocks.sequence import ListInput, ListInterest
from model_stage.blocks.sparse_attention import SparseAttention, SparseConfig
from model_stage.blocks.stca import STCA
from model_stage.config.targets import IntervalPosition, RankPosition

DIM = 4
POSITIONS = (RankPosition(kind="rank", buckets=3), IntervalPosition(kind="interval", buckets=2))
MINUTE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The input of a block, and the users of the lists for the block that reads them."""

    x: ListInput
    user_LD: torch.Tensor


class _Reads(nn.Module):
    """Gives a block that reads lists alone the shape of one that reads users too."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, lists: Lists) -> ListInterest:
        return self.block(lists.x)

    def reference(self, lists: Lists) -> ListInterest:
        return self.block.reference(lists.x)


class _LongerReads(_Reads):
    def forward(self, lists: Lists) -> ListInterest:
        return self.block(lists.x, lists.user_LD)

    def reference(self, lists: Lists) -> ListInterest:
        return self.block.reference(lists.x, lists.user_LD)


class _SASRecReads(_Reads):
    """Two targets: one with both positions, one with the second; all that is per candidate, side by side."""

    @staticmethod
    def tables(x):
        return (x.buckets, x.buckets[1:])

    def forward(self, lists):
        return self.flat(lists.x, self.block(self.first(lists.x), self.tables(lists.x)))

    def reference(self, lists):
        return self.flat(lists.x, self.block.reference(self.first(lists.x), self.tables(lists.x)))

    @staticmethod
    def first(x):
        return replace(x, buckets=x.buckets[:1])

    @staticmethod
    def flat(x, found):
        row_M, _ = list_pairs(x.offsets, x.list_B)
        users_BX = found.users.vector_LJD.flatten(1)[x.list_B]
        return ListInterest(
            representation_BD=torch.cat([found.representation_BJD.flatten(1), found.score_BJ, users_BX], dim=1),
            weight_M=found.users.weight_NJ.mean(1)[row_M],
            rest_B=(x.offsets[x.list_B] == x.offsets[x.list_B + 1]).to(x.values_ND.dtype),
        )


class _HistoryReads(nn.Module):
    """Gives a block over whole histories the shape of one over lists: candidates in any order, weights as theirs."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, lists):
        return self.flat(lists.x, self.block)

    def reference(self, lists):
        return self.flat(lists.x, self.block.reference)

    @staticmethod
    def flat(x, read):
        order_B = torch.argsort(x.list_B, stable=True)
        place_B = torch.argsort(order_B)
        answer = read(replace(x, candidate_BD=x.candidate_BD[order_B], list_B=x.list_B[order_B]))
        mass_QW = answer.mass_QW.to(answer.representation_QD.dtype)
        weights = answer.weight_P.split(x.offsets.diff()[x.list_B[order_B]].tolist())
        return ListInterest(
            representation_BD=torch.cat([answer.representation_QD, mass_QW], dim=1)[place_B],
            weight_M=torch.cat([weights[at] for at in place_B.tolist()]),
            rest_B=(x.offsets.diff()[x.list_B] == 0).to(torch.float32),
        )


class _DINOverLists(nn.Module):
    """DIN over lists; its twin is that over pairs."""

    def __init__(self):
        super().__init__()
        self.block = DIN(DIM, hidden=(5, 3))

    def forward(self, x):
        return self.block.read_lists(x, torch.ones(len(x.values_ND), dtype=torch.int64))

    def reference(self, x):
        row_M, _ = list_pairs(x.offsets, x.list_B)
        lengths = x.offsets.diff()[x.list_B]
        nothing = x.values_ND[:0, :0]
        found = self.block.reference(
            AttentionInput(
                attention_UA=nothing,
                attention_BA=nothing,
                representation_UR=x.values_ND,
                representation_BR=x.candidate_BD,
                behavior_M=row_M,
                pair_offsets=nn.functional.pad(lengths.cumsum(0), (1, 0)),
                buckets={},
            )
        )
        return Answer(
            representation_QD=found.representation_BR, mass_QW=found.mass_BW, weight_P=found.weight_WM[0].detach()
        )


SPARSE = SparseConfig(kind="sparse", scope="list", window=2, global_tokens=2, heads=2, layers=2)
HIERARCHY = HierarchyConfig(kind="hierarchy", scope="list", gap_minutes=60, heads=2, layers=1)


def longer_options(**options) -> LongerConfig:
    return LongerConfig(
        **{"kind": "longer", "scope": "list", "merge": 4, "recent": 100, "layers": 1, "heads": 2, **options}
    )


BLOCKS = {
    "sasrec": lambda: _SASRecReads(TargetDecoupledSASRec(POSITIONS[:1], (POSITIONS, POSITIONS[1:]), DIM, 2, 1)),
    "hstu": lambda: _Reads(
        HSTU(
            DIM,
            HSTUConfig(kind="hstu", scope="list", heads=2, layers=2, scale_length=3),
            rank=RankPosition(kind="rank", buckets=3),
            interval=IntervalPosition(kind="interval", buckets=4),
        )
    ),
    "longer": lambda: _LongerReads(Longer(DIM, longer_options(merge=2, recent=2))),
    "longer_unmerged": lambda: _LongerReads(Longer(DIM, longer_options(merge=1, recent=3, layers=2))),
    "linear": lambda: _Reads(LinearAttention(POSITIONS, DIM, 2, 2)),
    "sparse": lambda: _Reads(SparseAttention(POSITIONS, DIM, SPARSE)),
    "hierarchy": lambda: _Reads(Hierarchy(POSITIONS, DIM, HIERARCHY)),
    "stca": lambda: _HistoryReads(STCA(POSITIONS, DIM, heads=2, head_dim=3, layers=3)),
    "din_history": lambda: _HistoryReads(_DINOverLists()),
}


def make_block(name: str, seed: int = 0) -> nn.Module:
    """Gives the block with parameters that all matter."""
    torch.manual_seed(seed)
    block = BLOCKS[name]()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def make_lists(lengths, list_of, *, seed=0, dtype=torch.float32, scale=1.0) -> Lists:
    """Gives lists of random rows that need gradients; times are minutes to days apart."""
    generator = torch.Generator().manual_seed(seed)
    num_rows = sum(lengths)

    def draw(rows):
        values = scale * torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
        return values.to(torch.bfloat16).to(dtype).requires_grad_()

    gaps = (10 ** (4 * torch.rand(num_rows, generator=generator))).long() * MINUTE_MS + 1
    age = [part.flip(0).cumsum(0).flip(0) for part in gaps.split(lengths)]
    x = ListInput(
        values_ND=draw(num_rows),
        offsets=torch.tensor([0, *lengths]).cumsum(0),
        candidate_BD=draw(len(list_of)),
        list_B=torch.tensor(list_of),
        interval_ms_N=torch.cat(age),
        buckets=[torch.randint(p.buckets, (num_rows,), generator=generator) for p in POSITIONS],
    )
    return Lists(x=x, user_LD=draw(len(lengths)))


def choose(lists: Lists, candidates: list[int]) -> Lists:
    """Gives these candidates in this order, each with a copy of its list of its own."""
    x, chosen = lists.x, torch.tensor(candidates)
    row_M, _ = list_pairs(x.offsets, x.list_B[chosen])
    lengths = (x.offsets[1:] - x.offsets[:-1])[x.list_B[chosen]]
    alone = ListInput(
        values_ND=x.values_ND[row_M],
        offsets=nn.functional.pad(lengths.cumsum(0), (1, 0)),
        candidate_BD=x.candidate_BD[chosen],
        list_B=torch.arange(len(candidates)),
        interval_ms_N=x.interval_ms_N[row_M],
        buckets=[bucket_N[row_M] for bucket_N in x.buckets],
    )
    return Lists(x=alone, user_LD=lists.user_LD[x.list_B[chosen]])


def leaves_of(block: nn.Module, lists: Lists) -> list[torch.Tensor]:
    """Gives all that gradients reach."""
    return [lists.x.values_ND, lists.x.candidate_BD, lists.user_LD, *block.parameters()]


def gradients(found: ListInterest, leaves) -> list[torch.Tensor]:
    """Gives the gradients of a mixture of everything that is in the representations."""
    output = found.representation_BD
    mixed = (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum()
    grads = torch.autograd.grad(mixed, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, grads, strict=True)]


@st.composite
def ragged(draw, dtypes=(torch.float32, torch.float64)) -> Lists:
    """Draws lists, empty ones among them, and candidates; some lists have no candidate, some have several."""
    lengths = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
    list_of = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    return make_lists(lengths, list_of, seed=draw(st.integers(0, 2**31)), dtype=draw(st.sampled_from(dtypes)))
