"""Target-decoupled SASRec: shared embeddings and lower layers; position table, last layer and readout per target.

    x_i     = e_i + p_f(i)                          shared positions
    X       = causal layers of x                    shared, computed once for all targets
    h^(t)_i = layer_t(X + p^(t)_f(i))_i             the target's own positions and last layer, causal
    h^(t)   = LN_t(h^(t)_newest)                    one user vector per target; zeros for an empty list
    g_t(v)  = W_t (v + p_0 + p^(t)_0) + b_t         the target's readout of the candidate
    score   = <h^(t), g_t(v)>                       representation h^(t) * g_t(v), elementwise

Source: SASRec, arXiv 1808.09781 (learned positions, layers, final normalisation, dot product with the candidate). The
Tencent paper (arXiv 2510.21714) decouples it by target; how, we could not read. What is shared here is our choice, and
so are the readout and the target's own position table on top of a shared one: without the shared one the lower layers,
whose work all targets share, would know nothing of time.

Two uses: in the ranker over the retrieved lists, each distinct list once; and candidate-free over the recent history,
`user_vectors` and then `prerank` of many thousand candidates.

Legend: N rows of L lists, B candidates of lists, C candidates of pre-ranking, J position tables (targets or groups of
them), D width, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from model_stage.blocks.interest import Interest, InterestBlock, ListConfig
from model_stage.blocks.pairs import full_precision, typed
from model_stage.blocks.position import PositionTables
from model_stage.blocks.ragged import Layout
from model_stage.blocks.registry import register
from model_stage.blocks.sequence import (
    LayerNorm,
    ListInput,
    TransformerLayer,
    causal_layers,
    causal_reference,
    contract,
    linears,
    lists_of,
    norms,
)
from model_stage.config.targets import MatchLevelPosition, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.blocks.block_input import BlockInput, Positions, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class UserVectors:
    """What SASRec knows of the users, before any candidate."""

    vector_LJD: Tensor
    """Zeros for an empty list."""
    weight_NJ: Tensor
    """Attention of a list's newest row on every row in each target's last layer, the mean over heads; sums to 1 over a
    list. No gradient flows through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SASRecInterest:
    """What the block gives."""

    representation_BJD: Tensor
    """Zeros for an empty list."""
    score_BJ: Tensor
    """The sum of the representation: the logit of SASRec alone."""
    users: UserVectors


class _Part(nn.Module):
    """What belongs to one target or group."""

    def __init__(self, positions: Positions, dim: int, heads: int) -> None:
        super().__init__()
        self.positions = PositionTables(positions, dim)
        self.layer = TransformerLayer(dim, heads)
        self.norm = LayerNorm(dim)
        self.readout = nn.Linear(dim, dim)


class TargetDecoupledSASRec(nn.Module):
    """One user vector per target from shared work.

    Args:
        shared: Positional encodings of the shared layers.
        tables: Positional encodings of each target or group, J of them.
        dim: Width.
        heads: Heads of every layer.
        layers: Shared layers, 0 or more; each target has one more of its own.
    """

    def __init__(
        self,
        shared: Positions,
        tables: Sequence[Positions],
        dim: int,
        heads: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.out_dim = dim
        self.positions = PositionTables(shared, dim)
        self.layers = nn.ModuleList(TransformerLayer(dim, heads) for _ in range(layers))
        self.parts = nn.ModuleList(_Part(positions, dim, heads) for positions in tables)

    def forward(self, x: ListInput, table_buckets: Sequence[Sequence[Tensor]]) -> SASRecInterest:
        """Reads every list once and every candidate against its list.

        Args:
            x: The lists; `buckets` are those of the shared encodings.
            table_buckets: Per table, the bucket of each row under each of its encodings, int64 (N,) each.
        """
        return self._interest(self.user_vectors(x.values_ND, x.offsets, x.buckets, table_buckets), x)

    def reference(self, x: ListInput, table_buckets: Sequence[Sequence[Tensor]]) -> SASRecInterest:
        """The formulas of the module docstring, list by list; same answer as `forward`."""
        rows_ND = x.values_ND + self.positions.encode(x.buckets)
        vectors, weights = [], []
        for number, rows_TD in enumerate(lists_of(rows_ND, x.offsets)):
            mine = slice(int(x.offsets[number]), int(x.offsets[number + 1]))
            lower_TD = causal_reference(self.layers, rows_TD)
            visible_TT = torch.ones(len(rows_TD), len(rows_TD), dtype=torch.bool).tril()
            vector_JD, weight_TJ = [], []
            for part, buckets in zip(typed(self.parts, _Part), table_buckets, strict=True):
                if len(rows_TD):
                    part_TD = lower_TD + part.positions.encode([b[mine] for b in buckets])
                    last_TD, weight_TT = part.layer.reference(part_TD, part_TD, visible_TT)
                    vector_JD.append(part.norm(last_TD[-1]))
                    weight_TJ.append(weight_TT[-1])
                else:
                    vector_JD.append(x.values_ND.new_zeros(x.values_ND.shape[1]))
                    weight_TJ.append(x.values_ND.new_zeros(0))
            vectors.append(torch.stack(vector_JD))
            weights.append(torch.stack(weight_TJ, dim=1))
        users = UserVectors(vector_LJD=torch.stack(vectors), weight_NJ=torch.cat(weights))
        read = [
            part.readout(x.candidate_BD + self.positions.candidate_row + part.positions.candidate_row)
            for part in typed(self.parts, _Part)
        ]
        return _product(users, users.vector_LJD.index_select(0, x.list_B) * torch.stack(read, dim=1))

    def user_vectors(
        self, values_ND: Tensor, offsets: Tensor, buckets: Sequence[Tensor], table_buckets: Sequence[Sequence[Tensor]]
    ) -> UserVectors:
        """Gives the user vectors of lists; arguments as in `forward`.

        The last layer of every target computes its newest row only, and projects no row to a key or a value:
        <q, W_k x> = <W_k' q, x> and sum w W_v x = W_v sum w x, the scale and shift of the layer's norm likewise.
        """
        parts, num_lists = typed(self.parts, _Part), len(offsets) - 1
        if not len(values_ND):
            nothing = values_ND.new_zeros(num_lists, len(parts), values_ND.shape[1])
            return UserVectors(vector_LJD=nothing, weight_NJ=nothing[:0, :, 0])
        layout = Layout.of_lists(offsets)
        lower_ND = causal_layers(self.layers, values_ND + self.positions.encode(buckets), layout)
        row_JND = [lower_ND + part.positions.encode(own) for part, own in zip(parts, table_buckets, strict=True)]
        newest_L = (offsets[1:] - 1).clamp(min=0)
        newest_JLD = torch.stack([row_ND.index_select(0, newest_L) for row_ND in row_JND])
        attended_JLD, weight_NJ = self._attend(newest_JLD, row_JND, layout)
        vector_LJD = self._finish(newest_JLD, attended_JLD).transpose(0, 1)
        return UserVectors(vector_LJD=vector_LJD.where((offsets.diff() > 0)[:, None, None], 0.0), weight_NJ=weight_NJ)

    def _attend(self, newest_JLD: Tensor, row_JND: Sequence[Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
        """Gives what the newest rows attend to, (J, L, D), and the weight of each row, (N, J)."""
        layers = [part.layer for part in typed(self.parts, _Part)]
        attention_norms, heads = [layer.attention_norm for layer in layers], layers[0].heads
        query_JLD = linears(norms(newest_JLD, attention_norms), [layer.to_query for layer in layers])
        query_JLHE = query_JLD.view(*query_JLD.shape[:2], heads, -1) / (query_JLD.shape[2] / heads) ** 0.5
        key_JHED, value_JHED = (
            torch.stack([getattr(layer, name).weight for layer in layers]).view(
                len(layers), heads, -1, query_JLD.shape[2]
            )
            for name in ("to_key", "to_value")
        )
        scale_JD, shift_JD = (
            full_precision(torch.stack([getattr(n, name) for n in attention_norms])) for name in ("weight", "bias")
        )
        # What the shift adds to a score is the same for all rows: a softmax does not see it.
        query_JLHD = contract("jlhe,jhed->jlhd", query_JLHE, key_JHED) * scale_JD[:, None, None]
        read = [
            _read(query_LHD, row_ND, norm, layout)
            for query_LHD, row_ND, norm in zip(query_JLHD, row_JND, attention_norms, strict=True)
        ]
        pooled_JLHD = torch.stack([pooled for pooled, _ in read]) * scale_JD[:, None, None] + shift_JD[:, None, None]
        attended_JLHE = torch.einsum("jlhd,jhed->jlhe", pooled_JLHD.to(value_JHED.dtype), value_JHED)
        return attended_JLHE.flatten(2), torch.stack([weight_N for _, weight_N in read], dim=1)

    def _finish(self, newest_JKD: Tensor, attended_JKD: Tensor) -> Tensor:
        """Gives the vectors from the newest rows, (J, K, D): the rest of every target's last layer, and its norm."""
        parts = typed(self.parts, _Part)
        layers = [part.layer for part in parts]
        x_JKD = newest_JKD + linears(attended_JKD, [layer.to_out for layer in layers])
        normed_JKD = norms(x_JKD, [layer.feed_forward_norm for layer in layers])
        inner, outer = ([cast("nn.Linear", layer.feed_forward[at]) for layer in layers] for at in (0, 2))
        x_JKD = x_JKD + linears(torch.relu(linears(normed_JKD, inner)), outer)
        return norms(x_JKD, [part.norm for part in parts])

    def prerank(self, users: UserVectors, candidate_CD: Tensor) -> Tensor:
        """Gives the score of every candidate for every list and target, (L, J, C), higher is better.

        The readout is folded into the user vector, <h, W v + b> = <W' h, v> + <h, b>, so a candidate costs one inner
        product per list and target; same answer as `SASRecInterest.score_BJ`.
        """
        scores = []
        for part, vector_LD in zip(typed(self.parts, _Part), users.vector_LJD.unbind(1), strict=True):
            query_LD = vector_LD @ part.readout.weight
            start_D = self.positions.candidate_row + part.positions.candidate_row
            constant_L = query_LD @ start_D + vector_LD @ part.readout.bias
            scores.append(query_LD @ candidate_CD.T + constant_L[:, None])
        return torch.stack(scores, dim=1)

    def _interest(self, users: UserVectors, x: ListInput) -> SASRecInterest:
        """Reads the candidates out against the vectors of their lists, all targets in one product."""
        parts = typed(self.parts, _Part)
        start_JD = torch.stack([part.positions.candidate_row for part in parts]) + self.positions.candidate_row
        readouts = [part.readout for part in parts]
        constant_JD = linears(start_JD[:, None], readouts).squeeze(1)
        weight_PD = torch.cat([readout.weight for readout in readouts])
        read_BJD = nn.functional.linear(x.candidate_BD, weight_PD).view(-1, *constant_JD.shape) + constant_JD
        return _product(users, users.vector_LJD.index_select(0, x.list_B) * read_BJD)


def _read(query_LHD: Tensor, row_ND: Tensor, norm: LayerNorm, layout: Layout) -> tuple[Tensor, Tensor]:
    """Gives what lists' queries attend to of their normalised rows, (L, H, D), and the weight of each row, (N,)."""
    unit_ND = nn.functional.layer_norm(full_precision(row_ND), row_ND.shape[1:], eps=norm.eps).to(row_ND.dtype)
    pooled, weights = [], []
    for bucket in layout.buckets:
        unit_LTD = bucket.rows.of(unit_ND)
        score_LHT = contract("lhd,ltd->lht", query_LHD.index_select(0, bucket.list_L), unit_LTD)
        weight_LHT = torch.softmax(bucket.rows.hide(score_LHT), dim=2)
        pooled.append(torch.bmm(weight_LHT.to(unit_LTD.dtype), unit_LTD)[:, None])
        weights.append(weight_LHT.detach().mean(1))
    return layout.queries(pooled), layout.rows(weights)


def _product(users: UserVectors, product_BJD: Tensor) -> SASRecInterest:
    return SASRecInterest(representation_BJD=product_BJD, score_BJ=full_precision(product_BJD).sum(2), users=users)


class SASRecBlock(InterestBlock):
    """One instance serves every table set, for its lower layers are shared. Its score is its mass."""

    def __init__(self, shape: Shape, config: SASRecConfig) -> None:
        super().__init__(out_dim=shape.representation_dim, num_masses=1)
        readable = config.readable(shape)
        self._shared, self._tables, self._newest = config.shared, readable.tables, config.newest_read
        self.block = TargetDecoupledSASRec(
            config.shared, readable.tables, shape.representation_dim, config.heads, config.layers
        )

    def forward(self, x: BlockInput) -> list[Interest]:
        """See `InterestBlock`."""
        sets = (self._shared, *self._tables)
        joined, lists = x.lists_with([position for positions in sets for position in positions], self._newest)
        rows = iter(joined.buckets)
        shared, *own = [[next(rows) for _ in positions] for positions in sets]
        found = cast("SASRecInterest", self.block(replace(joined, buckets=shared), own))
        weight_MJ, rest_BJ = lists.rows_on_pairs(full_precision(found.users.weight_NJ))
        return [
            Interest(
                representation_BR=found.representation_BJD[:, table],
                mass_BW=full_precision(found.score_BJ[:, table : table + 1]),
                weight_M=weight_MJ[:, table],
                rest_B=rest_BJ[:, table],
            )
            for table in range(len(self._tables))
        ]


@register
class SASRecConfig(ListConfig):
    """Options of the block in a preset."""

    kind: Literal["sasrec"]
    shared: tuple[Position, ...]
    """Positional encodings of the layers that the targets share; the last layer has the targets' own."""
    heads: int = Field(ge=1, le=64)
    layers: int = Field(ge=0, le=16)
    """Shared layers; every table set has one more of its own."""

    @model_validator(mode="after")
    def _check_shared(self) -> SASRecConfig:
        if self.scope == "union" and any(isinstance(position, MatchLevelPosition) for position in self.shared):
            raise ValueError("shared: match_level is said of what a candidate retrieved; scope union has none")
        return self

    def build(self, shape: Shape) -> SASRecBlock:
        """See `BlockConfig`."""
        return SASRecBlock(shape, self)
