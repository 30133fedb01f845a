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

Two uses: in the ranker over the user's newest behaviors or the retrieved lists, each list once; and candidate-free over
the recent history, `user_vectors` and then `prerank` of many thousand candidates.

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
    lists_of,
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

    def read(self, row_ND: Tensor, newest_L: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Gives the vector of each list, (L, D), and the weight of each row, (N,).

        Only the newest row of a list is computed, and no row is projected to a key or a value: <q, W_k x> = <W_k' q, x>
        and sum w W_v x = W_v sum w x, the scale and shift of the layer's norm likewise.

        Args:
            row_ND: What enters the layer.
            newest_L: The newest row of each list, any row for an empty one. int64.
            layout: Of the lists, with one query each.
        """
        layer, newest_LD = self.layer, row_ND.index_select(0, newest_L)
        query_LHE, norm = layer.query(newest_LD), layer.attention_norm
        key_HED, value_HED = (
            matrix.weight.view(layer.heads, -1, row_ND.shape[1]) for matrix in (layer.to_key, layer.to_value)
        )
        # What the norm's shift adds to a score is the same for all rows: a softmax does not see it.
        query_LHD = contract("lhe,hed->lhd", query_LHE / query_LHE.shape[2] ** 0.5, key_HED) * full_precision(
            norm.weight
        )
        unit_ND = nn.functional.layer_norm(full_precision(row_ND), row_ND.shape[1:], eps=norm.eps).to(row_ND.dtype)
        pooled, weights = [], []
        for bucket in layout.buckets:
            unit_LTD = bucket.rows.of(unit_ND)
            score_LHT = contract("lhd,ltd->lht", query_LHD.index_select(0, bucket.list_L), unit_LTD)
            weight_LHT = torch.softmax(bucket.rows.hide(score_LHT), dim=2)
            pooled.append(torch.bmm(weight_LHT.to(unit_LTD.dtype), unit_LTD)[:, None])
            weights.append(weight_LHT.detach().mean(1))
        pooled_LHD = layout.queries(pooled) * norm.weight + norm.bias
        attended_LHE = torch.einsum("lhd,hed->lhe", pooled_LHD, value_HED)
        return self.norm(layer.finish(newest_LD, attended_LHE)), layout.rows(weights)


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
        return self._interest(UserVectors(vector_LJD=torch.stack(vectors), weight_NJ=torch.cat(weights)), x)

    def user_vectors(
        self, values_ND: Tensor, offsets: Tensor, buckets: Sequence[Tensor], table_buckets: Sequence[Sequence[Tensor]]
    ) -> UserVectors:
        """Gives the user vectors of lists; arguments as in `forward`.

        A target's last layer costs what one query costs.
        """
        parts, num_lists = typed(self.parts, _Part), len(offsets) - 1
        if not len(values_ND):
            nothing = values_ND.new_zeros(num_lists, len(parts), values_ND.shape[1])
            return UserVectors(vector_LJD=nothing, weight_NJ=nothing[:0, :, 0])
        layout = Layout.of_lists(offsets)
        lower_ND = causal_layers(self.layers, values_ND + self.positions.encode(buckets), layout)
        newest_L = (offsets[1:] - 1).clamp(min=0)
        read = [
            part.read(lower_ND + part.positions.encode(own), newest_L, layout)
            for part, own in zip(parts, table_buckets, strict=True)
        ]
        vectors, weights = zip(*read, strict=True)
        vector_LJD = torch.stack(vectors, dim=1).where((offsets.diff() > 0)[:, None, None], 0.0)
        return UserVectors(vector_LJD=vector_LJD, weight_NJ=torch.stack(weights, dim=1))

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
        """Reads the candidates out against the vectors of their lists."""
        start_BD = x.candidate_BD + self.positions.candidate_row
        read = [part.readout(start_BD + part.positions.candidate_row) for part in typed(self.parts, _Part)]
        product_BJD = users.vector_LJD.index_select(0, x.list_B) * torch.stack(read, dim=1)
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
                weight_WM=weight_MJ[None, :, table],
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
