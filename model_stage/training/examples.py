"""Training examples as flat columns: labelled requests one after another, in memory or mapped from files.

Legend: R requests, N candidates of all of them, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from model_stage.encoding.batch import RequestColumns
from model_stage.training.history import Histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.encoding.batch import Batch, EncodedRequest
    from model_stage.training.history import Span, UserRows
    from store.types import F32, I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One encoded request with its labels."""

    encoded: EncodedRequest
    labels: F32
    """(C, T), NaN = unknown."""
    rows: I64
    """Rows of the impressions it came from. (C,)"""
    history: Span | None = None
    """All that the user did before the request, where something learns from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Labelled requests; what is chosen of them is copied, they themselves are never changed."""

    requests: RequestColumns
    labels: F32
    """NaN = unknown. (N, T)"""
    rows: I64
    """Row of the impressions that each candidate came from. (N,)"""
    histories: Histories | None = None
    """Of each request, where an auxiliary loss or a block reads them."""
    whole: bool = False
    """Whether the behaviors of each request are its history, and stand there instead of in `requests`."""

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def num_candidates(self) -> int:
        """Candidates of all requests, N."""
        return len(self.rows)

    @staticmethod
    def of(examples: Sequence[Example], users: UserRows | None = None) -> Examples:
        """Gives some examples, at least one, as columns.

        Args:
            examples: Either all of them have a history or none has.
            users: What the histories are spans of; None = there are none.
        """
        histories = [example.history for example in examples if example.history is not None]
        assert len(histories) == (0 if users is None else len(examples))
        return Examples(
            requests=RequestColumns.of([example.encoded for example in examples]),
            labels=np.concatenate([example.labels for example in examples]),
            rows=np.concatenate([example.rows for example in examples]),
            histories=None if users is None else Histories.of(histories, users),
        )

    def take(self, requests: I64, candidates: I64, candidate_offsets: I64) -> Examples:
        """Gives some candidates of some requests; arguments as those of `RequestColumns.take`."""
        return Examples(
            requests=self.requests.take(requests, candidates, candidate_offsets),
            labels=self.labels.take(candidates, axis=0),
            rows=self.rows.take(candidates),
            histories=None if self.histories is None else self.histories.take(requests),
            whole=self.whole,
        )

    def batch(self) -> Batch:
        """Gives what the network reads of all of it; of whole histories after a `take`."""
        if not self.whole:
            return self.requests.batch()
        assert self.histories is not None
        rows = self.histories.rows
        requests = replace(
            self.requests,
            behavior_offsets=self.histories.offsets,
            behavior_node=rows.node,
            behavior_side=rows.side,
            interval_ms=self.histories.interval_ms,
        )
        return requests.batch()
