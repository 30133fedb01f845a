"""The sequence blocks of the control `control_shared`: SASRec and LONGER on rectangles of lists x longest list.

Written from the docstrings of `model_stage/blocks/sasrec.py`, `longer.py` and `longer_tokens.py`. Every list is read
once: that of the user, where the preset's scope is the union, else each different one that candidates retrieved.

Legend: L lists, T of the longest list, S merged tokens of it, B candidates, D width of a row, E width of a token,
Q queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding, layer_norm, pad, relu, scaled_dot_product_attention

from model_stage.config.targets import IntervalPosition, MatchLevelPosition, Position, RankPosition
from scripts.bench.rank.padded import Rectangle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scripts.bench.rank.padded import Weights
    from scripts.bench.rank.shared_blocks import Embedded

_GLOBALS = 2
_INTERVAL = IntervalPosition(kind="interval", buckets=32)
_RANK = RankPosition(kind="rank", buckets=512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """The lists, and which one each candidate reads."""

    cells: Rectangle
    """Oldest first, padding behind."""
    list_B: Tensor
    value_LTD: Tensor

    @staticmethod
    def of(x: Embedded, newest: int) -> Sequences:
        """Gives the user's newest behaviors as one list, or with 0 the lists that candidates retrieved."""
        if newest:
            union, length = len(x.representation_UR), min(newest, x.num_newest)
            row_LT = torch.arange(union - length, union)[None]
            cells = Rectangle(
                index_BK=row_LT,
                valid_BK=torch.ones_like(row_LT, dtype=torch.bool),
                rank_BK=union - row_LT,
                interval_ms_U=x.pairs.interval_ms_U,
                level_BK=torch.zeros_like(row_LT),
            )
            list_B = torch.zeros(len(x.representation_BR), dtype=torch.int64)
        else:
            first_L, list_B = x.same_as_B.unique(return_inverse=True)
            cells = x.pairs.take(first_L)
        return Sequences(cells=cells, list_B=list_B, value_LTD=embedding(cells.index_BK, x.representation_UR))

    def added(self, weights: Weights, positions: Sequence[Position]) -> Tensor:
        """Gives the sum of the rows' positional encodings. (L, T, D)."""
        total = torch.zeros(())
        for position, table_ND in zip(positions, weights.tensors("rows"), strict=True):
            total = total + embedding(self.cells.bucket(position), table_ND)
        return total


def sasrec(
    weights: Weights,
    x: Embedded,
    shared: Sequence[Position],
    tables: Sequence[Sequence[Position]],
    heads: int,
    newest: int,
) -> list[tuple[Tensor, Tensor]]:
    """Gives representation (B, D) and score (B, 1) of each target."""
    lists = Sequences.of(x, newest)
    x_LTD = lists.value_LTD + lists.added(weights.under("positions"), shared)
    for layer in weights.parts("layers"):
        x_LTD = _layer(layer, x_LTD, x_LTD, heads, None)
    length_L = lists.cells.valid_BK.sum(1)
    last_L11 = (length_L - 1).clamp(min=0)[:, None, None]
    found = []
    for part, every in zip(weights.parts("parts"), tables, strict=True):
        own = [each for each in every if not (newest and isinstance(each, MatchLevelPosition))]
        part_LTD = x_LTD + lists.added(part.under("positions"), own)
        newest_L1D = part_LTD.take_along_dim(last_L11, dim=1)
        out_L1D = _layer(part.under("layer"), newest_L1D, part_LTD, heads, lists.cells.valid_BK[:, None])
        vector_LD = _norm(part.under("norm"), out_L1D[:, 0]).where(length_L[:, None] > 0, 0.0)
        start = weights["positions.candidate_row"] + part["positions.candidate_row"]
        read_BD = (x.representation_BR + start) @ part["readout.weight"].T + part["readout.bias"]
        product_BD = vector_LD[lists.list_B] * read_BD
        found.append((product_BD, product_BD.sum(1, keepdim=True)))
    return found


def longer(
    weights: Weights, user: Weights, x: Embedded, *, merge: int, recent: int, heads: int, newest: int
) -> tuple[Tensor, Tensor]:
    """Gives the representation (B, E) of every target, which has no mass (B, 0)."""
    lists = Sequences.of(x, newest)
    token_LSE, valid_LS = _merged(weights.under("tokens"), lists, merge, heads)
    user_E = x.user_BX[0] @ user["weight"].T @ weights["to_user.weight"].T + weights["to_user.bias"]
    globals_QE = torch.stack([user_E, weights["class_token"]])
    x_LQE = torch.cat([globals_QE.expand(len(token_LSE), -1, -1), token_LSE], dim=1)
    out_B1E = (x.representation_BR @ weights["to_candidate.weight"].T + weights["to_candidate.bias"])[:, None]
    layers = weights.parts("layers")
    for number, layer in enumerate(layers):
        visible_LQ = pad(valid_LS, (_GLOBALS, 0), value=True)
        out_B1E = _candidates(layer, out_B1E, x_LQE, visible_LQ, lists.list_B, heads)
        if number == len(layers) - 1:
            break
        seen = _visible(visible_LQ)
        if number == 0:
            kept = min(recent, token_LSE.shape[1])
            rows = torch.tensor([*range(_GLOBALS), *range(x_LQE.shape[1] - kept, x_LQE.shape[1])])
            x_LQE = _layer(layer, x_LQE[:, rows], x_LQE, heads, seen[:, rows])
            valid_LS = valid_LS[:, valid_LS.shape[1] - kept :]
        else:
            x_LQE = _layer(layer, x_LQE, x_LQE, heads, seen)
    representation_BE = _norm(weights.under("norm"), out_B1E[:, 0])
    return representation_BE, representation_BE[:, :0]


def _merged(weights: Weights, lists: Sequences, merge: int, heads: int) -> tuple[Tensor, Tensor]:
    """Gives merged tokens, the newest last (L, S, E), and which of them there are."""
    cells = lists.cells
    interval_LTD = embedding(cells.bucket(_INTERVAL), weights["interval.weight"])
    joined_LTD = torch.cat([lists.value_LTD, interval_LTD], dim=2) @ weights["join.weight"].T + weights["join.bias"]
    valid_LT, length_L1 = cells.valid_BK, cells.valid_BK.sum(1, keepdim=True)
    # The rank in its own list, whatever was selected of it: LONGER counts from the newest row it reads.
    rank_LT = (length_L1 - torch.arange(valid_LT.shape[1])).clamp(min=1)
    row_LTD = joined_LTD + embedding((rank_LT - 1).clamp(max=_RANK.buckets - 1), weights["rank"])
    # Padding goes in front: groups are counted from the newest row.
    size = -(-valid_LT.shape[1] // merge) * merge
    place_LT = torch.where(valid_LT, size - rank_LT, size)
    x_LTD = row_LTD.new_zeros(len(row_LTD), size + 1, row_LTD.shape[2])
    x_LTD = x_LTD.scatter_(1, place_LT[:, :, None].expand_as(row_LTD), row_LTD)[:, :size]
    filled_LT = torch.arange(size) >= size - length_L1
    if merge > 1:
        group = x_LTD.reshape(-1, merge, x_LTD.shape[2])
        filled = filled_LT.reshape(-1, 1, merge)
        inner = _layer(weights.under("inner"), group, group, heads, filled | ~filled.any(2, keepdim=True))
        x_LTD = inner.where(filled.transpose(1, 2), 0.0).view_as(x_LTD)
    return x_LTD.unflatten(1, (-1, merge)).flatten(2), filled_LT.unflatten(1, (-1, merge)).any(2)


def _visible(there_LQ: Tensor) -> Tensor:
    """Gives what each of [user, class, tokens] sees: globals all that is there, tokens those up to them. (L, Q, Q)."""
    count = there_LQ.shape[1]
    causal_QQ = torch.ones(count, count, dtype=torch.bool).tril()
    causal_QQ[:, :_GLOBALS] = False
    causal_QQ[:_GLOBALS] = True
    return (causal_QQ & there_LQ[:, None]) | torch.eye(count, dtype=torch.bool)  # padding sees itself


def _candidates(
    weights: Weights, x_B1E: Tensor, context_LQE: Tensor, there_LQ: Tensor, list_B: Tensor, heads: int
) -> Tensor:
    """Gives a layer's output for candidates, each of which sees its list's tokens and itself. (B, 1, E)."""
    _, key_LHQ, value_LHQ = _projected(weights, context_LQE, heads)
    query_BH1, key_BH1, value_BH1 = _projected(weights, x_B1E, heads)
    scale = math.sqrt(query_BH1.shape[3])
    if len(context_LQE) == 1:  # all read one list: nothing is copied
        score_BHQ = torch.einsum("bhe,hqe->bhq", query_BH1[:, :, 0], key_LHQ[0])
    else:
        score_BHQ = torch.einsum("bhe,bhqe->bhq", query_BH1[:, :, 0], key_LHQ[list_B])
    score_BHQ = score_BHQ.masked_fill(~there_LQ[list_B][:, None], -torch.inf)
    weight = torch.softmax(torch.cat([score_BHQ, (query_BH1 * key_BH1).sum(3)], dim=2) / scale, dim=2)
    weight_BHQ, own_BH1 = weight[:, :, :-1], weight[:, :, -1:]
    if len(context_LQE) == 1:
        seen_BHE = torch.einsum("bhq,hqe->bhe", weight_BHQ, value_LHQ[0])
    else:
        seen_BHE = torch.einsum("bhq,bhqe->bhe", weight_BHQ, value_LHQ[list_B])
    return _finish(weights, x_B1E, (seen_BHE + own_BH1 * value_BH1[:, :, 0])[:, :, None])


def _layer(weights: Weights, x_LQE: Tensor, context_LTE: Tensor, heads: int, visible: Tensor | None) -> Tensor:
    """Gives the output of a pre-norm transformer layer; causal where no visibility, bool (L, Q, T), is given."""
    query = _projected(weights, x_LQE, heads)[0]
    _, key, value = _projected(weights, context_LTE, heads)
    mask = None if visible is None else visible[:, None]
    attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=visible is None)
    return _finish(weights, x_LQE, attended)


def _projected(weights: Weights, x_LTE: Tensor, heads: int) -> list[Tensor]:
    """Gives queries, keys and values. (L, H, T, E / H)."""
    normed_LTE = _norm(weights.under("attention_norm"), x_LTE)
    names = "to_query", "to_key", "to_value"
    return [(normed_LTE @ weights[f"{name}.weight"].T).unflatten(2, (heads, -1)).transpose(1, 2) for name in names]


def _finish(weights: Weights, x_LQE: Tensor, attended_LHQ: Tensor) -> Tensor:
    x_LQE = x_LQE + attended_LHQ.transpose(1, 2).flatten(2) @ weights["to_out.weight"].T + weights["to_out.bias"]
    normed_LQE = _norm(weights.under("feed_forward_norm"), x_LQE)
    inner = relu(normed_LQE @ weights["feed_forward.0.weight"].T + weights["feed_forward.0.bias"])
    return x_LQE + inner @ weights["feed_forward.2.weight"].T + weights["feed_forward.2.bias"]


def _norm(weights: Weights, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], weights["weight"], weights["bias"])
