"""Adagrad with one number of state a row: how a table learns whose rows are read with very different frequency.

    s_r += mean_d(g_rd ^ 2)          w_r -= rate * g_r / sqrt(s_r)          of the rows r whose gradient is not zero

A row that a step does not read has no gradient and keeps its very bits, in a dense table as in a sparse one; a row that
is read often takes ever smaller steps; the direction of a row's gradient is kept, so that a row moves as a vector. Adam
does none of this: its moments go on moving an unread row, and a penalty in its gradient, however small, is normalised
to full steps. Nothing pulls a row anywhere.

Source: Adagrad, Duchi et al., JMLR 12 (2011); one accumulator a row is the usual choice for embedding tables (FBGEMM's
`EXACT_ROWWISE_ADAGRAD`).

Legend: V rows of a table, N of them with a gradient, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

_TINY = 1e-30
"""Below any square of a gradient that float32 can tell from zero."""


class RowAdagrad(torch.optim.Optimizer):
    """Changes tables by their gradients, row by row; see the module docstring.

    Args:
        tables: Parameters (V, D), their gradients dense, or sparse and coalesced.
        rate: Length of a row's first step, root mean square over its elements.
    """

    def __init__(self, tables: Iterable[torch.nn.Parameter], rate: float) -> None:
        super().__init__(tables, {"rate": rate})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Takes one step."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._change(table, *_rows_of(table.grad), group["rate"])

    def _change(self, table: Tensor, row_N: Tensor, gradient_ND: Tensor, rate: float) -> None:
        state = self.state[table]
        if not state:
            state["sum_V"] = table.new_zeros(len(table))
        square_N = (gradient_ND * gradient_ND).mean(1)
        state["sum_V"].index_add_(0, row_N, square_N)
        scale_N = rate * (state["sum_V"].index_select(0, row_N) + _TINY).rsqrt()
        table.index_add_(0, row_N, gradient_ND * scale_N[:, None], alpha=-1.0)


def _rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gives the rows of a gradient that are not zero, int64 (N,), and what they hold, (N, D)."""
    if gradient.is_sparse:
        return gradient.indices()[0], gradient.values()
    (row_N,) = torch.nonzero(gradient.any(1), as_tuple=True)
    return row_N, gradient.index_select(0, row_N)
