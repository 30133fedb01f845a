"""Fused embeddings: a taxonomy path and the side-info of a behavior as one vector, or as the parts that make it.

Legend: N rows of the tree, U behaviors, F behavior fields, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model_stage.blocks.block_input import NODE, fuse

if TYPE_CHECKING:
    from model_stage.config.schema import EmbeddedField, MultiValuedField, Schema
    from model_stage.encoding.vocabulary import Vocabularies


class PathEmbedding(nn.Module):
    """Embedding of taxonomy nodes as the sum over their path, plus the fused side-info of behaviors.

    The sum is our choice: it makes a node without data equal to its parent, and keeps one inner product in soft search.
    """

    path: Tensor
    served_nodes: Tensor | None
    """Vectors of all nodes (V, D), float32 or bfloat16, once the network only serves; None = they are summed."""

    def __init__(self, vocabularies: Vocabularies, schema: Schema, dim: int, node_init: float) -> None:
        super().__init__()
        tree = vocabularies.tree
        self._fields = schema.behavior_fields
        self.register_buffer("path", torch.from_numpy(tree.path), persistent=False)
        self.register_buffer("served_nodes", None, persistent=False)
        self.node = nn.Embedding(len(tree.path), dim, padding_idx=0)
        with torch.no_grad():
            self.node.weight.zero_()
            categories = torch.from_numpy(tree.categories.rows.copy())
            self.node.weight[categories] = torch.randn(len(categories), dim) * node_init
        fields = [schema.behavior_field(name) for name in self._fields]
        self.side = nn.ModuleList(
            nn.Embedding(
                len(vocabularies.behavior_names[name]) + 1 if field is None else vocabularies.num_rows(field), dim
            )
            for name, field in zip(self._fields, fields, strict=True)
        )
        for table, field in zip(self.side, fields, strict=True):
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.02)
            if field is not None:
                with torch.no_grad():
                    table.weight[: vocabularies.first_row(field)].zero_()

    def nodes(self, rows: Tensor) -> Tensor:
        """Gives the fused embedding of tree rows, int32 or int64: (N,) -> float32 (N, D)."""
        if self.served_nodes is None:
            return self.summed_nodes(rows)
        return nn.functional.embedding(rows, self.served_nodes).float()

    def summed_nodes(self, rows: Tensor) -> Tensor:
        """Gives what `nodes` does, always as the sum over the path."""
        path_NP, weight_VD = self.path[rows], self.node.weight
        if self.node.sparse:
            # Bags without the zeros that end short paths: where rows are left out, torch takes its slow loop.
            known_NP = path_NP != 0
            ends_N = known_NP.sum(1).cumsum(0)
            offsets = nn.functional.pad(ends_N, (1, 0)).to(path_NP.dtype)
            return nn.functional.embedding_bag(
                path_NP[known_NP], weight_VD, offsets, mode="sum", sparse=True, include_last_offset=True
            )
        summed_ND: Tensor = _PathSum.apply(weight_VD, path_NP)  # type: ignore[no-untyped-call]
        return summed_ND

    def parts(self, rows: Tensor, side_UF: Tensor) -> dict[str, Tensor]:
        """Gives the embedding of each part of behaviors, (U, D) each: `NODE`, then every behavior field."""
        parts = {NODE: self.nodes(rows)}
        for column, (name, table) in enumerate(zip(self._fields, self.side, strict=True)):
            parts[name] = table(side_UF[:, column])
        return parts

    def behaviors(self, rows: Tensor, side_UF: Tensor) -> Tensor:
        """Gives the fused embedding of behaviors, all their parts. (U, D)."""
        return fuse(list(self.parts(rows, side_UF).values()))


class _PathSum(torch.autograd.Function):
    """Sums rows of a table, as `embedding_bag` does in three times the time; row 0 is nothing and learns nothing."""

    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, path_NP: Tensor) -> Tensor:  # noqa: ANN401 -- torch gives it no type
        ctx.save_for_backward(path_NP)
        ctx.table = weight_VD.shape
        summed_ND = weight_VD.new_zeros(len(path_NP), weight_VD.shape[1])
        for row_N in path_NP.unbind(1):
            found_ND = weight_VD.index_select(0, row_N)
            summed_ND += found_ND.masked_fill_((row_N == 0)[:, None], 0.0)
        return summed_ND

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:  # noqa: ANN401
        (gradient_ND,) = gradients
        (path_NP,) = ctx.saved_tensors
        gradient_VD = gradient_ND.new_zeros(ctx.table)
        for row_N in path_NP.unbind(1):
            gradient_VD.index_add_(0, row_N, gradient_ND)
        gradient_VD[0] = 0.0
        return gradient_VD, None


def field_table(vocabularies: Vocabularies, field: EmbeddedField) -> nn.Embedding:
    """Gives the table of a field. "Unknown" says nothing until training says otherwise; "missing" is a value."""
    table = nn.Embedding(vocabularies.num_rows(field), field.width)
    with torch.no_grad():
        table.weight[1 : vocabularies.first_row(field)].zero_()
    return table


def bag_table(vocabularies: Vocabularies, field: MultiValuedField) -> nn.EmbeddingBag:
    """Gives the table of a multi-valued field: lists of its rows become their means, an empty list zero."""
    return nn.EmbeddingBag(
        vocabularies.num_rows(field), field.dim, mode="mean", padding_idx=0, include_last_offset=True
    )
