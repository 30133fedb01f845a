"""Whether a network's tables and attentions still say something: numbers of health, and words where one has collapsed.

A table has collapsed when its rows are next to nothing of what they were, or all point the same way; soft search then
answers the same list whatever is asked. An attention has collapsed when its weights are those of a mean.

Legend: N rows, D width, M pairs, B candidates, K pairs of a candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from store.types import F32, I64

MIN_NORM = 0.25
"""Median norm of a table's rows over what it was at the start; below it the table has collapsed."""
MIN_RANK = 0.25
"""Effective rank over what it could be; below it too."""
MAX_OVERLAP = 0.8
"""Jaccard index of the soft lists of two candidates; above it soft search does not ask what the candidate is."""
MAX_ENTROPY = 0.995
"""Entropy of attention relative to uniform; above it, where `MIN_SHARP` is not reached either, it is a mean."""
MIN_SHARP = 0.01
"""Share of candidates with a weight above `SHARP` times uniform."""
SHARP = 2.0
_ROWS = 1 << 16
"""Rows of a table to look at at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHealth:
    """Of a table of embeddings, over the rows that did not start at zero."""

    norm_median: float
    """Norm of a row over what it was at the start."""
    norm_p10: float
    effective_rank: float
    directions: int
    """What it can be at most: the width, or the number of rows where that is less."""
    list_overlap: float | None = None
    """Of the table that soft search uses: `list_overlap`. None = another table, or too short histories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionHealth:
    """Of a block's attention for one target, over the candidates with at least three pairs."""

    entropy: float
    """Relative to uniform: 1 = a mean."""
    sharp: float
    """Share of candidates with a weight above `SHARP` times uniform."""


def table_health(start: F32, now_ND: F32, list_overlap: float | None = None) -> TableHealth | None:
    """Measures a table; None where all its rows started at zero.

    Args:
        start: Norm of each row at the start. (N,)
        now_ND: The table as it is.
        list_overlap: See `TableHealth`.
    """
    rows = now_ND[start > 0.0]
    if not len(rows):
        return None
    low, median = np.quantile(np.linalg.norm(rows, axis=1) / start[start > 0.0], [0.1, 0.5])
    return TableHealth(
        norm_median=float(median),
        norm_p10=float(low),
        effective_rank=effective_rank(rows),
        directions=min(rows.shape),
        list_overlap=list_overlap,
    )


def effective_rank(rows_ND: F32) -> float:
    """Gives exp of the entropy of the singular values' shares: 1 = all rows on one line, D = every direction alike.

    Source: Roy and Vetterli, EUSIPCO 2007; singular values as roots of the eigenvalues of X^T X, some rows at a time.
    """
    parts = (rows_ND[at : at + _ROWS].astype(np.float64) for at in range(0, len(rows_ND), _ROWS))
    gram_DD = sum((part.T @ part for part in parts), np.zeros((rows_ND.shape[1],) * 2))
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram_DD), 0.0, None))
    if not values.sum():
        return 0.0
    share = values / values.sum()
    share = share[share > 0.0]
    return float(np.exp(-(share * np.log(share)).sum()))


def attention_health(weight_M: F32, offsets: I64) -> AttentionHealth | None:
    """Measures an attention; None where no candidate has three pairs.

    Args:
        weight_M: Weights of pairs; those of a candidate are divided by their sum, and what has none is left out.
        offsets: Pairs of each candidate. (B + 1,)
    """
    length_B = np.diff(offsets)
    candidate_M = np.repeat(np.arange(len(length_B)), length_B)
    weights = np.abs(weight_M).astype(np.float64)
    total_B = np.bincount(candidate_M, weights, minlength=len(length_B))
    (seen,) = np.nonzero((length_B >= 3) & (total_B > 0.0))  # of two none exceeds twice a half
    if not len(seen):
        return None
    share_M = weights / np.maximum(total_B, np.finfo(np.float64).tiny)[candidate_M]
    bits_M = -share_M * np.log(np.where(share_M > 0.0, share_M, 1.0))
    entropy_B = np.bincount(candidate_M, bits_M, minlength=len(length_B))
    above_B = np.bincount(candidate_M, share_M * length_B[candidate_M] > SHARP, minlength=len(length_B)) > 0.0
    return AttentionHealth(
        entropy=float((entropy_B[seen] / np.log(length_B[seen])).mean()), sharp=float(above_B[seen].mean())
    )


def list_overlap(table_ND: F32, history: I64, history_offsets: I64, asked: I64, top_k: int) -> float | None:
    """Gives the mean Jaccard index of the soft lists of two different candidates of a request.

    Args:
        table_ND: Vectors of nodes.
        history: Nodes of behaviors, each once within a request, request after request.
        history_offsets: Behaviors of each request. (requests + 1,)
        asked: Nodes of two different candidates of each request. (requests, 2)
        top_k: Length of a list; requests with fewer than three times as many behaviors are left out.

    Returns:
        None where no request has enough behaviors. Random lists of 10 out of 30 have about .2.
    """
    (enough,) = np.nonzero(np.diff(history_offsets) >= 3 * top_k)
    found = []
    for request in enough:
        nodes = history[history_offsets[request] : history_offsets[request + 1]]
        score_K2 = table_ND[nodes] @ table_ND[asked[request]].T
        first, second = (set(np.argsort(-score_K2[:, at], kind="stable")[:top_k].tolist()) for at in (0, 1))
        found.append(len(first & second) / len(first | second))
    return float(np.mean(found)) if found else None


def find_collapsed(tables: Mapping[str, TableHealth], attentions: Mapping[str, AttentionHealth]) -> list[str]:
    """Says in words what has collapsed; empty = nothing.

    Args:
        tables: Those that only an attention reads, by name: others are what the towers and their penalty make of them.
        attentions: By name; of blocks that can attend.
    """
    found = []
    for name, table in tables.items():
        if table.norm_median < MIN_NORM:
            found.append(
                f"table {name} has collapsed: half of its rows have at most {table.norm_median:.3f} of the norm they "
                "started with"
            )
        if table.effective_rank < MIN_RANK * table.directions:
            found.append(
                f"table {name} has collapsed: its rows span {table.effective_rank:.1f} of {table.directions} directions"
            )
        if table.list_overlap is not None and table.list_overlap > MAX_OVERLAP:
            found.append(
                f"table {name} has collapsed: soft search answers nearly the same list whatever the candidate, the "
                f"lists of two candidates overlap by {table.list_overlap:.2f}"
            )
    for name, attention in attentions.items():
        if attention.entropy > MAX_ENTROPY and attention.sharp < MIN_SHARP:
            found.append(
                f"attention {name} has collapsed: it is a mean, its entropy is {attention.entropy:.4f} of uniform and "
                f"{attention.sharp:.1%} of the candidates have a weight above {SHARP:g} times uniform"
            )
    return found
