"""What the blocks over (candidate, behavior) pairs share: their input, their output, and the sums over pairs.

A union of behaviors and the pairs that join it to the candidates, by candidate and oldest first within one:

    behavior_M    3  5 | 0  3  4  5 |    | 5        rows of the union (U)
    pair_offsets  0      2            6    6   7    pairs of the candidates (B); candidate 2 has none

What depends on a behavior alone is computed once per row of the union, what depends on a bucket alone once per bucket
(`pair_attention.py`). Scores, softmax and sums over pairs are float32 or better, whatever the tables are.

Legend: M pairs, U behaviors of the union, B candidates, W attentions side by side (table sets, heads, subsets), D a
width, A attention width, R representation width, N buckets of all encodings, E encodings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from model_stage.blocks.pair_attention import attend
from model_stage.blocks.ragged import offsets_to_segments, segment_softmax, segment_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from model_stage.config.targets import Position

K = TypeVar("K", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class AttentionInput:
    """What a block attends over: fused embeddings of both table sets, and the pairs that join them.

    A block with one table set for both uses (DIN, SIM, TWIN, ETA, the pool) reads the representations only.
    """

    attention_UA: Tensor
    attention_BA: Tensor
    representation_UR: Tensor
    representation_BR: Tensor
    behavior_M: Tensor
    """Row in U of each pair. int32."""
    pair_offsets: Tensor
    """Pairs of each candidate. int64 (B + 1,)."""
    buckets: Mapping[Position, Tensor]
    """Bucket of each pair under each encoding that a block may read, int64 (M,) each."""

    @property
    def num_candidates(self) -> int:
        """B."""
        return len(self.representation_BR)

    @cached_property
    def candidate_M(self) -> Tensor:
        """Row in B of each pair, ascending. int64."""
        return offsets_to_segments(self.pair_offsets)

    @cached_property
    def bucket_EM(self) -> Tensor:
        """Bucket of each pair among those of all encodings, one encoding after another. int32."""
        first, columns = 0, []
        for position, bucket_M in self.buckets.items():
            columns.append((bucket_M + first).to(torch.int32))
            first += position.buckets
        return torch.stack(columns) if columns else self.behavior_M.new_zeros((0, len(self.behavior_M)))

    def take(self, kept: Tensor) -> AttentionInput:
        """Gives the input with some of its pairs only: ascending rows of M, int64. Positions stay as they were."""
        return replace(
            self,
            behavior_M=self.behavior_M[kept],
            pair_offsets=torch.searchsorted(kept, self.pair_offsets),
            buckets={position: bucket_M[kept] for position, bucket_M in self.buckets.items()},
        )

    def buckets_of(self, positions: Sequence[Position]) -> list[Tensor]:
        """Gives the bucket of each pair under some of the encodings, int64 (M,) each."""
        return [self.buckets[position] for position in positions]

    def rows_of(self, positions: Sequence[Position], tables: Sequence[Tensor], width: int) -> Tensor:
        """Gives the rows of some encodings' tables among those of all encodings; of the others rows of zeros. (N, D).

        Args:
            positions: Encodings, each one of `buckets`.
            tables: The table of each, (buckets, D).
            width: D.
        """
        known = dict(zip(positions, tables, strict=True))
        nothing = self.representation_BR
        rows = [known[p] if p in known else nothing.new_zeros((p.buckets, width)) for p in self.buckets]
        return full_precision(torch.cat(rows) if rows else nothing.new_zeros((0, width)))

    def attend(
        self, query_WBA: Tensor, key_UGA: Tensor, bias_WBN: Tensor, value_UHR: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Attends over the pairs: pooled (W, B, R), share (W, B, N), mass (W, B), weights (W, M).

        Args:
            query_WBA: As `pair_attention.attend`.
            key_UGA: As there.
            bias_WBN: As there, of all encodings.
            value_UHR: As there.

        Raises:
            ValueError: `bias_WBN` is not as wide as all encodings together: a compiled kernel checks no bounds.
        """
        if bias_WBN.shape[2] != sum(position.buckets for position in self.buckets):
            raise ValueError(f"bias_WBN: {bias_WBN.shape[2]} columns for encodings {list(self.buckets)}")
        return attend(query_WBA, key_UGA, bias_WBN, value_UHR, self.behavior_M, self.pair_offsets, self.bucket_EM)

    def by_candidate(self, attend: Callable[[int, Tensor], Sequence[Tensor]]) -> Attended:
        """Puts together what a reference twin finds candidate by candidate, and writes the mass out.

        Args:
            attend: Gives for a candidate, a row of B, and its pairs, bool (M,): the representation, (R,), and weights
                and scores of the K pairs, (K, W) each.
        """
        found = [attend(candidate, self.candidate_M == candidate) for candidate in range(self.num_candidates)]
        outputs, weights, scores = zip(*found, strict=True)
        return Attended(
            representation_BR=torch.stack(outputs),
            mass_BW=torch.stack([torch.log(1 + torch.exp(score_KW).sum(0)) for score_KW in scores]),
            weight_WM=torch.cat(weights).T,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What a block of W attentions gives."""

    representation_BR: Tensor
    """Zeros where nothing was attended to; as wide as the block's `out_dim`, in the dtype of the input."""
    mass_BW: Tensor
    """log(1 + sum exp(score)) of each attention: how much there was to attend to; 0 where there was nothing."""
    weight_WM: Tensor
    """Weights; over the pairs of a candidate that has any, each row sums to 1."""


def typed(modules: Iterable[nn.Module], kind: type[K]) -> list[K]:
    """Gives the modules with their type, which a module list forgets."""
    return [module for module in modules if isinstance(module, kind)]


def full_precision(values: Tensor) -> Tensor:
    """Gives the values as float32, or as they are where they are wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def layer_norm(values: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Normalises the last dimension with statistics in full precision; answers in full precision."""
    weight, bias = full_precision(norm.weight), full_precision(norm.bias)
    return nn.functional.layer_norm(full_precision(values), norm.normalized_shape, weight, bias, norm.eps)


def full_linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gives `values @ weight.T + bias` in full precision, under autocast too: for what becomes a logit."""
    with torch.autocast(values.device.type, enabled=False):
        full_bias = None if bias is None else full_precision(bias)
        return nn.functional.linear(full_precision(values), full_precision(weight), full_bias)


def pair_scores(query_BWD: Tensor, key_MWD: Tensor, candidate_M: Tensor) -> Tensor:
    """Gives the inner product of each pair's key with its candidate's query, unscaled. (M, W).

    Args:
        query_BWD: One query per attention.
        key_MWD: Gathered keys; a middle dimension of 1 = all attentions share the key.
        candidate_M: Row in B of each pair.
    """
    return (full_precision(key_MWD) * full_precision(query_BWD).index_select(0, candidate_M)).sum(-1)


def pair_softmax(score_MW: Tensor, candidate_M: Tensor, num_candidates: int) -> tuple[Tensor, Tensor]:
    """Softmax over the pairs of each candidate, in each attention: weights (M, W) and mass (B, W); see `Attended`."""
    num_attentions = score_MW.shape[1]
    cell_MW = candidate_M[:, None] + num_candidates * torch.arange(num_attentions, device=candidate_M.device)
    scores, num_cells = full_precision(score_MW).flatten(), num_candidates * num_attentions
    weight, mass = segment_softmax(scores, cell_MW.flatten(), num_cells)
    return weight.view_as(score_MW), mass.view(num_attentions, num_candidates).T


def pooled_rows(weight_MW: Tensor, value_MWD: Tensor, candidate_M: Tensor, num_candidates: int) -> Tensor:
    """Gives the weighted sum of each candidate's gathered values; a middle dimension of 1 = shared. (B, W, D)."""
    return segment_sum(weight_MW[:, :, None] * full_precision(value_MWD), candidate_M, num_candidates)


def top_k_pairs(score_M: Tensor, candidate_M: Tensor, top_k: int) -> Tensor:
    """Gives the rows of each candidate's k pairs of highest score, ascending; of equals the newer. int64."""
    backward_M = torch.arange(len(score_M) - 1, -1, -1, device=score_M.device)
    order_M = backward_M[torch.sort(score_M[backward_M], descending=True, stable=True).indices]
    order_M = order_M[torch.sort(candidate_M[order_M], stable=True).indices]
    rank_M = torch.arange(len(score_M), device=score_M.device) - torch.searchsorted(candidate_M, candidate_M)
    return order_M[rank_M < top_k].sort().values


def top_k_reference(score_M: Tensor, candidate_M: Tensor, top_k: int) -> Tensor:
    """The twin of `top_k_pairs`, candidate by candidate."""
    kept: list[int] = []
    scores = score_M.tolist()
    for candidate in sorted(set(candidate_M.tolist())):
        mine = torch.nonzero(candidate_M == candidate).flatten().tolist()
        best = sorted(mine, key=lambda pair: (-scores[pair], -pair))[:top_k]
        kept += sorted(best)
    return torch.tensor(kept, dtype=torch.int64, device=score_M.device)


def spread(found: Attended, kept: Tensor, num_pairs: int) -> Attended:
    """Gives what a block found in the kept pairs as an answer over all pairs; the others have weight 0."""
    return replace(found, weight_WM=spread_weights(found.weight_WM, kept, num_pairs))


def spread_weights(weight_WK: Tensor, kept: Tensor, num_pairs: int) -> Tensor:
    """Gives the weights of the kept pairs over all pairs, zero elsewhere. (W, M)."""
    return weight_WK.new_zeros((len(weight_WK), num_pairs)).index_copy(1, kept, weight_WK)


def list_pairs(offsets: Tensor, list_B: Tensor) -> tuple[Tensor, Tensor]:
    """Gives lists with the candidates that read them as pairs: row of the lists and candidate of each, int64 (M,).

    Candidate by candidate, oldest row first; offsets [0, 2, 3] and list_B [0, 1, 0] -> rows [0, 1, 2, 0, 1].
    """
    length_B = (offsets[1:] - offsets[:-1]).index_select(0, list_B)
    candidate_M = torch.repeat_interleave(torch.arange(len(list_B), device=list_B.device), length_B)
    first_B = offsets.index_select(0, list_B) - (length_B.cumsum(0) - length_B)
    return first_B[candidate_M] + torch.arange(len(candidate_M), device=list_B.device), candidate_M
