"""Training examples as flat columns: labelled requests one after another, in memory or mapped from files.

Legend: R requests, N candidates of all of them, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.encoding.batch import RequestColumns
from model_stage.training.history import Histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.encoding.batch import EncodedRequest
    from model_stage.training.history import EncodedHistory
    from store.types import F32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One encoded request with its labels."""

    encoded: EncodedRequest
    labels: F32
    """(C, T), NaN = unknown."""
    rows: I64
    """Rows of the impressions it came from. (C,)"""
    history: EncodedHistory | None = None
    """All that the user did before the request, where an auxiliary loss learns from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Labelled requests; what is chosen of them is copied, they themselves are never changed."""

    requests: RequestColumns
    labels: F32
    """NaN = unknown. (N, T)"""
    rows: I64
    """Row of the impressions that each candidate came from. (N,)"""
    histories: Histories | None = None
    """Of each request, where an auxiliary loss learns from them."""

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def num_candidates(self) -> int:
        """Candidates of all requests, N."""
        return len(self.rows)

    @staticmethod
    def of(examples: Sequence[Example]) -> Examples:
        """Gives some examples, at least one, as columns; either all of them have a history or none has."""
        histories = [example.history for example in examples if example.history is not None]
        assert len(histories) in (0, len(examples))
        return Examples(
            requests=RequestColumns.of([example.encoded for example in examples]),
            labels=np.concatenate([example.labels for example in examples]),
            rows=np.concatenate([example.rows for example in examples]),
            histories=Histories.of(histories) if histories else None,
        )

    def take(self, requests: I64, candidates: I64, candidate_offsets: I64) -> Examples:
        """Gives some candidates of some requests; arguments as those of `RequestColumns.take`."""
        return Examples(
            requests=self.requests.take(requests, candidates, candidate_offsets),
            labels=self.labels.take(candidates, axis=0),
            rows=self.rows.take(candidates),
            histories=None if self.histories is None else self.histories.take(requests),
        )
