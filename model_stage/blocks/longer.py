"""LONGER: token merge, global tokens, cross then causal self-attention, and a user side that can be cached.

    token    x_i = W [e_i ; t(interval_i)] + p(rank_i)
    merge    G neighbours through one light layer among themselves, then concatenated: ceil(T / G) tokens of width G d
    globals  user, class: see every merged token and one another; candidate: sees all that and itself, no one sees it
    layer 1  queries [globals; k newest merged tokens] over the whole merged list (a merged token: those up to itself)
    layers   N causal self-attention layers over these queries alone
    output   LN(candidate's token)

Source: LONGER, arXiv 2505.04421: merge with inner transformer, global tokens, hybrid attention, absolute time
difference joined to the embedding plus learned positions, keys and values of the user side cached. Our choice, where
what we could read of it is silent: groups are counted from the newest row, so only the oldest group can be short, and
its empty slots are masked and then zero; merged tokens never see a global token, or they would not be causal; ranks
count from the newest row; the k tokens that stay queries are the newest.

Nothing on the user side depends on a candidate. `encode_user` gives its keys and values of every layer; `score` adds
one token per candidate. `forward` is the one after the other, so the cached path is the path.

Legend: N rows of L lists, S merged tokens of all lists, T cells per list, Q queries per list, K of them merged tokens,
B candidates, d width of a row, D = G d width of a merged token, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from model_stage.blocks.interest import ListBlock, ListConfig
from model_stage.blocks.longer_tokens import Tokens
from model_stage.blocks.pairs import list_pairs, typed
from model_stage.blocks.ragged import Cells, Layout, cells, lengths_to_offsets
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import (
    Keys,
    LayerNorm,
    ListInput,
    ListInterest,
    TransformerLayer,
    read_lists,
    scaled_dot_product,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model_stage.blocks.block_input import Shape

NUM_GLOBALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLayer:
    """What candidates read of one layer."""

    tokens: Keys
    """Of the merged tokens of every list, the k newest of each from layer 2 on."""
    token_offsets: Tensor
    """int64 (L + 1,)."""
    globals: Keys
    """Of the user and class tokens, (L, 2, H, E) each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCache:
    """The user side of L lists, all that `score` needs; valid for the as-of time and the weights it was made with."""

    layers: tuple[CachedLayer, ...]
    offsets: Tensor
    """Rows, before the merge, of each list. int64 (L + 1,)."""


class Longer(nn.Module):
    """See the module docstring. Positional encodings of the input are not used: the block has its own."""

    def __init__(self, dim: int, config: LongerConfig) -> None:
        super().__init__()
        self._recent, self._num_later = config.recent, config.layers
        self.out_dim = width = dim * config.merge
        self.tokens = Tokens(dim, config.merge, config.heads)
        self.to_user = nn.Linear(dim, width)
        self.to_candidate = nn.Linear(dim, width)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.layers = nn.ModuleList(TransformerLayer(width, config.heads) for _ in range(1 + config.layers))
        self.norm = LayerNorm(width)

    def forward(self, x: ListInput, user_LD: Tensor) -> ListInterest:
        """Reads every list once, then every candidate.

        Args:
            x: The lists.
            user_LD: Embedding of the user of each list, of the width of a row. (L, d)
        """
        return self.score(self.encode_user(x.values_ND, x.offsets, x.interval_ms_N, user_LD), x.candidate_BD, x.list_B)

    def encode_user(self, values_ND: Tensor, offsets: Tensor, interval_ms_N: Tensor, user_LD: Tensor) -> UserCache:
        """Gives the user side of each list; arguments as in `forward`. Costs all there is but the candidates."""
        merged_SD, merged_offsets = self.tokens(values_ND, offsets, interval_ms_N)
        length_L = merged_offsets[1:] - merged_offsets[:-1]
        recent_L = length_L.clamp(max=self._recent)
        every_offsets = [merged_offsets] + [lengths_to_offsets(recent_L)] * self._num_later
        global_L2D = torch.stack([self.to_user(user_LD), self.class_token.expand(len(user_LD), -1)], dim=1)
        layout, found = Layout.of_lists(merged_offsets), [[] for _ in self.layers]  # type: ignore[var-annotated]
        for bucket in layout.buckets:
            here = bucket.list_L
            x_LQD = torch.cat([global_L2D[here], bucket.rows.of(merged_SD)], dim=1)
            kept = cells((length_L - recent_L)[here], recent_L[here], min(self._recent, bucket.rows.width))
            for keys_of_bucket, keys in zip(found, self._encode(x_LQD, bucket.rows.valid_LT, kept), strict=True):
                keys_of_bucket.append(keys)
        layers = [_cached(layout, keys, own) for keys, own in zip(found, every_offsets, strict=True)]
        return UserCache(layers=tuple(layers), offsets=offsets)

    def score(self, cache: UserCache, candidate_BD: Tensor, list_B: Tensor) -> ListInterest:
        """Reads candidates against cached users; the same answer as `forward`.

        Args:
            cache: Of the same weights.
            candidate_BD: Fused embedding of each candidate, of the width of a row. (B, d)
            list_B: The list in the cache that each candidate reads. int64.

        Returns:
            The representation is (B, G d). The weights are layer 1's, a merged token's in equal parts on its rows.
        """
        every, recent = (Layout.of(cache.layers[at].token_offsets, list_B) for at in (0, -1))
        x_BD = self.to_candidate(candidate_BD)
        weight_M, rest_B = x_BD.new_zeros(0), x_BD.new_zeros(len(list_B))
        for number, (layer, cached) in enumerate(zip(typed(self.layers, TransformerLayer), cache.layers, strict=True)):
            query_B1HE, itself = layer.project(x_BD[:, None])
            layout = recent if number else every
            attended_BHE, weights = read_lists(query_B1HE.squeeze(1), cached.tokens, itself, layout, cached.globals)
            if number == 0:
                merged_M, rest_B = weights_of(weights, layout)
                weight_M = self._spread(merged_M, cache.offsets, list_B)
            x_BD = layer.finish(x_BD, attended_BHE)
        return ListInterest(representation_BD=self.norm(x_BD), weight_M=weight_M, rest_B=rest_B)

    def reference(self, x: ListInput, user_LD: Tensor) -> ListInterest:
        """The module docstring with no cache: user and candidate tokens together, candidate by candidate."""
        merged = self.tokens.reference(x.values_ND, x.offsets, x.interval_ms_N)
        outputs, weights, rest = [], [], []
        for candidate_D, number in zip(x.candidate_BD, x.list_B.tolist(), strict=True):
            tokens = [self.to_user(user_LD[number])[None], self.class_token[None], merged[number]]
            x_QD = torch.cat([*tokens, self.to_candidate(candidate_D)[None]])
            last = len(x_QD) - 1
            visible_QT = torch.ones(len(x_QD), len(x_QD), dtype=torch.bool)
            visible_QT[:last, last] = False
            visible_QT[NUM_GLOBALS:last, :last] = visible_QT[NUM_GLOBALS:last, :last].tril(NUM_GLOBALS)
            visible_QT[NUM_GLOBALS:last, :NUM_GLOBALS] = False
            kept = [0, 1, *range(NUM_GLOBALS, last)[-self._recent :], last]
            weight_T = x_QD.new_zeros(0)
            for depth, layer in enumerate(typed(self.layers, TransformerLayer)):
                context_TD = x_QD
                if depth == 0:
                    x_QD = x_QD[kept]
                    x_QD, weight_QT = layer.reference(x_QD, context_TD, visible_QT[kept])
                    visible_QT = visible_QT[kept][:, kept]
                    weight_T = weight_QT[-1].detach()
                else:
                    x_QD, _ = layer.reference(x_QD, context_TD, visible_QT)
            outputs.append(self.norm(x_QD[-1]))
            rows = int(x.offsets[number + 1] - x.offsets[number])
            weights.append(self._spread(weight_T[NUM_GLOBALS:-1], torch.tensor([0, rows]), torch.zeros(1).long()))
            rest.append(weight_T[:NUM_GLOBALS].sum() + weight_T[-1])
        return ListInterest(
            representation_BD=torch.stack(outputs), weight_M=torch.cat(weights), rest_B=torch.stack(rest)
        )

    def _encode(self, x_LQD: Tensor, valid_LT: Tensor, kept: Cells) -> Iterator[Keys]:
        """Runs lists of one size through the layers and gives the keys of each; `kept` are the k newest of T."""
        place_LQ = nn.functional.pad(kept.row_LT, (NUM_GLOBALS, 0), value=-1)
        visible_LQT = _visible(place_LQ, valid_LT)
        for number, layer in enumerate(typed(self.layers, TransformerLayer)):
            keys = layer.keys(x_LQD)
            yield keys
            if number == self._num_later:
                return  # only candidates read the last layer
            if number == 0:
                tokens_LKD = x_LQD[:, NUM_GLOBALS:].take_along_dim(kept.row_LT[:, :, None], dim=1)
                x_LQD = torch.cat([x_LQD[:, :NUM_GLOBALS], tokens_LKD], dim=1)
            elif number == 1:
                newest_K = torch.arange(kept.width, device=x_LQD.device).expand_as(kept.row_LT)
                visible_LQT = _visible(nn.functional.pad(newest_K, (NUM_GLOBALS, 0), value=-1), kept.valid_LT)
            x_LQD = layer.finish(x_LQD, scaled_dot_product(layer.query(x_LQD), keys, visible_LQT))

    def _spread(self, merged_M: Tensor, offsets: Tensor, list_B: Tensor) -> Tensor:
        """Gives each row its part of its merged token's weight."""
        length_L = offsets.diff()
        group_N, count_L = self.tokens.groups(length_L)
        share_N = torch.bincount(group_N, minlength=int(count_L.sum())).index_select(0, group_N).reciprocal()
        if len(offsets) == 2:
            return (merged_M.view(len(list_B), int(count_L)).index_select(1, group_N) * share_N).flatten()
        row_M, _ = list_pairs(offsets, list_B)
        first_B = lengths_to_offsets(count_L[list_B])[:-1] - lengths_to_offsets(count_L)[list_B]
        shift_M = torch.repeat_interleave(first_B, length_L[list_B])
        return merged_M.index_select(0, group_N.index_select(0, row_M) + shift_M) * share_N.index_select(0, row_M)


def _visible(place_LQ: Tensor, valid_LT: Tensor) -> Tensor:
    """Gives which of [user, class, tokens] each query sees. bool (L, Q, 2 + T).

    Args:
        place_LQ: Which token the query is; -1 = a global token, which sees all.
        valid_LT: The tokens that are there.
    """
    global_LQ1 = place_LQ[:, :, None] < 0
    earlier_LQT = torch.arange(valid_LT.shape[1], device=valid_LT.device) <= place_LQ[:, :, None]
    return torch.cat(
        [global_LQ1.expand(-1, -1, NUM_GLOBALS), torch.where(global_LQ1, valid_LT[:, None], earlier_LQT)], 2
    )


def _cached(layout: Layout, found: Sequence[Keys], token_offsets: Tensor) -> CachedLayer:
    """Takes the keys of each bucket's [user, class, tokens] apart into the rows of all lists."""
    both = [torch.stack([keys.key_NHE, keys.value_NHE], dim=2) for keys in found]
    tokens = layout.rows([kv[:, NUM_GLOBALS:] for kv in both], token_offsets)
    two_each = NUM_GLOBALS * torch.arange(len(token_offsets), device=token_offsets.device)
    shared = layout.rows([kv[:, :NUM_GLOBALS] for kv in both], two_each)
    shared = shared.view(-1, NUM_GLOBALS, *shared.shape[1:])
    return CachedLayer(
        tokens=Keys(key_NHE=tokens[:, 0], value_NHE=tokens[:, 1]),
        token_offsets=token_offsets,
        globals=Keys(key_NHE=shared[:, :, 0], value_NHE=shared[:, :, 1]),
    )


class LongerBlock(ListBlock):
    """Gives LONGER a user embedding per list: a projection of the user's fields, zeros where the schema has none."""

    def __init__(self, shape: Shape, config: LongerConfig) -> None:
        dim = shape.representation_dim
        super().__init__(config, shape, lambda positions: Longer(dim, config), positional=False)
        self.user = nn.Linear(shape.user_dim, dim, bias=False) if shape.user_dim else None

    def attend(self, block: nn.Module, x: ListInput, user_LX: Tensor) -> ListInterest:
        """Runs an instance over the lists and their users."""
        nobody_LD = x.values_ND.new_zeros(len(user_LX), x.values_ND.shape[1])
        return cast("ListInterest", block(x, nobody_LD if self.user is None else self.user(user_LX)))


@register
class LongerConfig(ListConfig):
    """Options of the block in a preset. It has its own positions, the same for all targets."""

    kind: Literal["longer"]
    merge: int = Field(ge=1, le=64)
    """G: rows per merged token; 1 = no merge and no inner layer."""
    recent: int = Field(ge=1)
    """k: merged tokens that stay queries after the first layer."""
    layers: int = Field(ge=0, le=16)
    """Self-attention layers after the first."""
    heads: int = Field(ge=1, le=64)

    def build(self, shape: Shape) -> LongerBlock:
        """See `BlockConfig`."""
        return LongerBlock(shape, self)
