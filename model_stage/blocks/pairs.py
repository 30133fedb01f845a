"""What the blocks over (candidate, behavior) pairs share: their input, their output, and the sums over pairs.

A union of behaviors and the pairs that join it to the candidates, by candidate and oldest first within one:

    behavior_M   3  5 | 0  3  4  5 |    | 5        rows of the union (U)
    candidate_M  0  0 | 1  1  1  1 |    | 3        rows of the candidates (B); candidate 2 has none

What depends on a behavior alone is computed once per row of the union, what depends on a bucket alone once per bucket;
only products are formed per pair. Scores, softmax and sums over pairs are float32 or better, whatever the tables are.

Legend: M pairs, U behaviors of the union, B candidates, W attentions side by side (heads, subsets, layers), D a width,
A attention width, R representation width, N buckets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from model_stage.blocks.ragged import segment_softmax, segment_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

K = TypeVar("K", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionInput:
    """What a block attends over: fused embeddings of both table sets, and the pairs that join them.

    A block with one table set for both uses (DIN, SIM, TWIN, ETA, the pool) reads the representations only.
    """

    attention_UA: Tensor
    attention_BA: Tensor
    representation_UR: Tensor
    representation_BR: Tensor
    behavior_M: Tensor
    """Row in U of each pair. int64."""
    candidate_M: Tensor
    """Row in B of each pair, ascending. int64."""
    buckets: Sequence[Tensor]
    """Bucket of each pair under each encoding, int64 (M,) each."""

    @property
    def num_candidates(self) -> int:
        """B."""
        return len(self.representation_BR)

    def take(self, kept: Tensor) -> AttentionInput:
        """Gives the input with some of its pairs only: ascending rows of M, int64. Positions stay as they were."""
        return replace(
            self,
            behavior_M=self.behavior_M[kept],
            candidate_M=self.candidate_M[kept],
            buckets=[bucket_M[kept] for bucket_M in self.buckets],
        )

    def add_bucket_scores(self, score_MW: Tensor, query_BWD: Tensor, tables: Iterable[Tensor]) -> Tensor:
        """Adds the inner product of each pair's bucket rows with its candidate's query, unscaled. (M, W).

        The product is formed per (candidate, bucket).

        Args:
            score_MW: What it is added to.
            query_BWD: One query per attention.
            tables: Of each encoding, (N, W, D); a middle dimension of 1 = all attentions share the rows.
        """
        num_candidates, num_attentions, _ = query_BWD.shape
        query_WBD = full_precision(query_BWD).transpose(0, 1)
        for table_NWD, bucket_M in zip(tables, self.buckets, strict=True):
            table_WDN = full_precision(table_NWD).expand(-1, num_attentions, -1).permute(1, 2, 0)
            with torch.autocast(query_BWD.device.type, enabled=False):
                score_WBN = torch.bmm(query_WBD, table_WDN)
            cell_MW = _cells(self.candidate_M, num_attentions, num_candidates) * len(table_NWD) + bucket_M[:, None]
            score_MW = score_MW + score_WBN.flatten().index_select(0, cell_MW.flatten()).view_as(cell_MW)
        return score_MW

    def add_pooled_buckets(self, pooled_BWD: Tensor, weight_MW: Tensor, tables: Iterable[Tensor]) -> Tensor:
        """Adds the weighted sum of each candidate's bucket rows, without a row per pair. (B, W, D).

        Arguments: as `add_bucket_scores`.
        """
        num_candidates, num_attentions = self.num_candidates, weight_MW.shape[1]
        for table_NWD, bucket_M in zip(tables, self.buckets, strict=True):
            num_buckets = len(table_NWD)
            cell_MW = _cells(self.candidate_M, num_attentions, num_candidates) * num_buckets + bucket_M[:, None]
            share = segment_sum(weight_MW.flatten(), cell_MW.flatten(), num_attentions * num_candidates * num_buckets)
            share_WBN = share.view(num_attentions, num_candidates, num_buckets)
            table_WND = full_precision(table_NWD).expand(-1, num_attentions, -1).transpose(0, 1)
            with torch.autocast(share.device.type, enabled=False):
                pooled_BWD = pooled_BWD + torch.bmm(share_WBN, table_WND).transpose(0, 1)
        return pooled_BWD

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
            weight_MW=torch.cat(weights),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What a block of W attentions gives."""

    representation_BR: Tensor
    """Zeros where nothing was attended to; as wide as the block's `out_dim`, in the dtype of the input."""
    mass_BW: Tensor
    """log(1 + sum exp(score)) of each attention: how much there was to attend to; 0 where there was nothing."""
    weight_MW: Tensor
    """Weights; over the pairs of a candidate that has any, each column sums to 1."""


def typed(modules: nn.ModuleList, kind: type[K]) -> list[K]:
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
    cell_MW = _cells(candidate_M, num_attentions, num_candidates)
    scores, num_cells = full_precision(score_MW).flatten(), num_candidates * num_attentions
    weight, mass = segment_softmax(scores, cell_MW.flatten(), num_cells)
    return weight.view_as(score_MW), mass.view(num_attentions, num_candidates).T


def pooled_rows(weight_MW: Tensor, value_MWD: Tensor, candidate_M: Tensor, num_candidates: int) -> Tensor:
    """Gives the weighted sum of each candidate's gathered values; a middle dimension of 1 = shared. (B, W, D)."""
    return segment_sum(weight_MW[:, :, None] * full_precision(value_MWD), candidate_M, num_candidates)


def side_by_side(found: Sequence[Attended], dtype: torch.dtype) -> Attended:
    """Gives several attentions over the same pairs as one block of all of them, the representation in `dtype`."""
    return Attended(
        representation_BR=torch.cat([each.representation_BR for each in found], dim=1).to(dtype),
        mass_BW=torch.cat([each.mass_BW for each in found], dim=1),
        weight_MW=torch.cat([each.weight_MW for each in found], dim=1),
    )


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
    return replace(found, weight_MW=spread_weights(found.weight_MW, kept, num_pairs))


def spread_weights(weight_KW: Tensor, kept: Tensor, num_pairs: int) -> Tensor:
    """Gives the weights of the kept pairs over all pairs, zero elsewhere. (M, W)."""
    return weight_KW.new_zeros((num_pairs, weight_KW.shape[1])).index_copy(0, kept, weight_KW)


def list_pairs(offsets: Tensor, list_B: Tensor) -> tuple[Tensor, Tensor]:
    """Gives lists with the candidates that read them as pairs: row of the lists and candidate of each, int64 (M,).

    Candidate by candidate, oldest row first; offsets [0, 2, 3] and list_B [0, 1, 0] -> rows [0, 1, 2, 0, 1].
    """
    length_B = (offsets[1:] - offsets[:-1]).index_select(0, list_B)
    candidate_M = torch.repeat_interleave(torch.arange(len(list_B), device=list_B.device), length_B)
    first_B = offsets.index_select(0, list_B) - (length_B.cumsum(0) - length_B)
    return first_B[candidate_M] + torch.arange(len(candidate_M), device=list_B.device), candidate_M


def _cells(candidate_M: Tensor, num_attentions: int, num_candidates: int) -> Tensor:
    """Gives the row of each pair's attentions in (W, B) flattened. int64 (M, W)."""
    if num_attentions == 1:
        return candidate_M[:, None]
    return candidate_M[:, None] + num_candidates * torch.arange(num_attentions, device=candidate_M.device)
