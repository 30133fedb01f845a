"""What the sequence blocks share: their input, a pre-norm transformer layer, and how a candidate reads a list.

    LN -> multi-head attention -> residual;  LN -> W2 ReLU(W1 x) -> residual

In every sequence block a candidate is one more token at the end of its list, that sees the list and itself and that
nothing sees. So a list's work is done once, whatever the number of candidates that read it, and a candidate's answer
cannot depend on another candidate. Source of the layer: SASRec, arXiv 1808.09781, section 3; the same layer in the
other blocks is our choice where their papers do not say. Dropout is the network's business.

Legend: N rows of L lists, T cells per list, C queries per list, B candidates, M (candidate, row) pairs, D width,
H heads, E = D / H, X tokens that all candidates of a list see besides it, Q queries of one list.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from model_stage.blocks.pairs import full_precision, layer_norm, typed
from model_stage.blocks.ragged import Layout, gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.ragged import Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class ListInput:
    """What a sequence block reads: rows of distinct lists, oldest first, and the candidates that read them."""

    values_ND: Tensor
    """Fused embedding of each row."""
    offsets: Tensor
    """Rows of each list. int64 (L + 1,)."""
    candidate_BD: Tensor
    """Fused embedding of each candidate."""
    list_B: Tensor
    """The list of each candidate. int64."""
    interval_ms_N: Tensor
    """As-of time less the row's time, milliseconds. int64."""
    buckets: Sequence[Tensor] = ()
    """Bucket of each row under each positional encoding of the block, int64 (N,) each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListInterest:
    """What a sequence block gives."""

    representation_BD: Tensor
    weight_M: Tensor
    """Attention, the mean over heads, of each candidate on the rows of its list: candidate by candidate, oldest row
    first. No gradient flows through it."""
    rest_B: Tensor
    """Attention on what is no behavior, the candidate itself and global tokens; of a softmax, one less the sum of the
    candidate's `weight_M`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys and values of some tokens."""

    key_NHE: Tensor
    value_NHE: Tensor

    def take(self, index: Tensor) -> Keys:
        """Gives the keys and values of these tokens, (*index.shape, H, E) each."""
        return Keys(key_NHE=gather(self.key_NHE, index), value_NHE=gather(self.value_NHE, index))

    def of(self, cells: Cells) -> Keys:
        """Gives the keys and values of the tokens in these cells, (L, T, H, E) each."""
        return Keys(key_NHE=cells.of(self.key_NHE), value_NHE=cells.of(self.value_NHE))

    def join(self, other: Keys) -> Keys:
        """Gives these tokens of each list, then those of another; all (L, T, H, E)."""
        both = zip((self.key_NHE, self.value_NHE), (other.key_NHE, other.value_NHE), strict=True)
        key, value = (torch.cat(pair, dim=1) for pair in both)
        return Keys(key_NHE=key, value_NHE=value)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with statistics in full precision, in the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises the last axis."""
        return layer_norm(input, self).to(input.dtype)


class TransformerLayer(nn.Module):
    """The projections of one pre-norm layer; which tokens see which is the caller's.

    A fast path asks for `project`, or `keys` or `query` alone, attends in its own way and calls `finish`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: {heads} does not divide the width {dim}")
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = LayerNorm(dim), LayerNorm(dim)
        self.to_query, self.to_key, self.to_value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(inplace=True), nn.Linear(4 * dim, dim))

    def project(self, x: Tensor) -> tuple[Tensor, Keys]:
        """Gives queries (..., H, E), and keys and values of tokens (..., D)."""
        normed = self.attention_norm(x)
        return self._split(self.to_query(normed)), self._keys(normed)

    def keys(self, x: Tensor) -> Keys:
        """Gives keys and values of tokens (..., D)."""
        return self._keys(self.attention_norm(x))

    def query(self, x: Tensor) -> Tensor:
        """Gives the queries of tokens: (..., D) -> (..., H, E)."""
        return self._split(self.to_query(self.attention_norm(x)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Gives the layer's output from what its tokens (..., D) attended to (..., H, E)."""
        x = x + self.to_out(attended.flatten(-2))
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out

    def causal(self, x_LTD: Tensor) -> Tensor:
        """Every token sees itself and those before it, so cells after the end of a list are never seen. (L, T, D)."""
        return self.finish(x_LTD, scaled_dot_product(*self.project(x_LTD), None))

    def reference(self, x_QD: Tensor, context_TD: Tensor, visible_QT: Tensor) -> tuple[Tensor, Tensor]:
        """The formula, for one list: tokens Q see those of the context that `visible_QT` names, at least one each.

        Returns:
            The layer's output (Q, D), and the weights, mean over heads, (Q, T).
        """
        keys, query_QHE = self.keys(context_TD), self.query(x_QD)
        outs, weights = [], []
        for head in range(self.heads):
            query_QE, key_TE, value_TE = query_QHE[:, head], keys.key_NHE[:, head], keys.value_NHE[:, head]
            logit_QT = contract("qe,te->qt", query_QE, key_TE) / key_TE.shape[-1] ** 0.5
            weight_QT = torch.softmax(logit_QT.masked_fill(~visible_QT, -torch.inf), dim=1)
            outs.append(weight_QT.to(value_TE.dtype) @ value_TE)
            weights.append(weight_QT)
        return self.finish(x_QD, torch.stack(outs, dim=1)), torch.stack(weights).mean(0)

    def _keys(self, normed: Tensor) -> Keys:
        return Keys(key_NHE=self._split(self.to_key(normed)), value_NHE=self._split(self.to_value(normed)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)


def scaled_dot_product(query_LQHE: Tensor, keys: Keys, visible: Tensor | None) -> Tensor:
    """Attention within rectangles; softmax in full precision. (L, Q, H, E).

    Args:
        query_LQHE: Queries.
        keys: (L, T, H, E) each.
        visible: bool, broadcastable to (L, Q, T), at least one visible cell per query; None = causal.
    """
    query, key, value = (x.transpose(1, 2) for x in (query_LQHE, keys.key_NHE, keys.value_NHE))
    mask = None if visible is None else visible[:, None]
    out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=visible is None)
    return out.transpose(1, 2)


def causal_layers(layers: nn.ModuleList, values_ND: Tensor, layout: Layout) -> Tensor:
    """Runs causal self-attention layers over every list. (N, D).

    Args:
        layers: `TransformerLayer`s.
        values_ND: The rows.
        layout: Of the lists; all of them have queries.
    """
    if not len(layers) or not len(values_ND):
        return values_ND
    found = []
    for bucket in layout.buckets:
        x_LTD = bucket.rows.of(values_ND)
        for layer in typed(layers, TransformerLayer) if bucket.rows.width else ():
            x_LTD = layer.causal(x_LTD)
        found.append(x_LTD)
    return layout.rows(found)


def causal_reference(layers: nn.ModuleList, x_TD: Tensor) -> Tensor:
    """The same for one list, by the formula."""
    visible_TT = torch.ones(len(x_TD), len(x_TD), dtype=torch.bool).tril()
    for layer in typed(layers, TransformerLayer) if len(x_TD) else ():
        x_TD, _ = layer.reference(x_TD, x_TD, visible_TT)
    return x_TD


def read_lists(
    query_BHE: Tensor, keys: Keys, own: Keys | None, layout: Layout, common: Keys | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Every query attends over the rows of its list and over tokens of its own, without copying keys per query.

    Args:
        query_BHE: Queries.
        keys: Of the rows of the lists, (N, H, E) each.
        own: Of a further token of each query, (B, 1, H, E) each. An empty list needs this or the next.
        layout: Of the lists and the queries.
        common: Of further tokens of each list, (L, X, H, E) each.

    Returns:
        What was attended to (B, H, E); and per bucket the weights over rows, common tokens and the own one, the mean
        over heads, (L, C, T + X + 1): see `weights_of`. Logits and softmax are full precision.
    """
    found, weights = [], []
    for bucket in layout.buckets:
        theirs = keys.of(bucket.rows)
        query_LCHE = full_precision(bucket.queries.of(query_BHE)) / query_BHE.shape[-1] ** 0.5
        logits = [bucket.rows.hide(contract("lche,lthe->lhct", query_LCHE, theirs.key_NHE))]
        if common is not None:
            shared = common.take(bucket.list_L)
            logits.append(contract("lche,lthe->lhct", query_LCHE, shared.key_NHE))
            theirs = theirs.join(shared)
        mine = None if own is None else own.of(bucket.queries)
        if mine is not None:
            logits.append((query_LCHE[:, :, None] * full_precision(mine.key_NHE)).sum(4).permute(0, 3, 1, 2))
        weight_LHCT = torch.softmax(torch.cat(logits, dim=3), dim=3)
        low, num_shared = weight_LHCT.to(query_BHE.dtype), theirs.key_NHE.shape[1]
        out_LCHE = torch.einsum("lhct,lthe->lche", low[..., :num_shared], theirs.value_NHE)
        if mine is not None:
            out_LCHE = out_LCHE + low[..., num_shared:].permute(0, 2, 1, 3) * mine.value_NHE.squeeze(2)
        found.append(out_LCHE)
        weights.append(weight_LHCT.detach().mean(1))
    return layout.queries(found), weights


def weights_of(weights: Sequence[Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
    """Gives the weights of `read_lists` as pairs: `weight_M` and `rest_B` of `ListInterest`."""
    own = [weight[:, :, bucket.rows.width :] for bucket, weight in zip(layout.buckets, weights, strict=True)]
    return layout.pairs(weights), layout.queries([weight.sum(2) for weight in own])


def contract(equation: str, *operands: Tensor) -> Tensor:
    """Gives `torch.einsum` in full precision, whatever the dtype of the operands and under autocast too."""
    with torch.autocast(operands[0].device.type, enabled=False):
        return torch.einsum(equation, *(full_precision(operand) for operand in operands))


def lists_of(values_ND: Tensor, offsets: Tensor) -> list[Tensor]:
    """Gives the rows of each list, (T, D) each: what reference twins walk over."""
    bounds = itertools.pairwise(offsets.tolist())
    return [values_ND[start:end] for start, end in bounds]
