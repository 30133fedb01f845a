"""One served request, as it is handed to what works beside the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.lists import Lists

if TYPE_CHECKING:
    from model_stage.bundle import Bundle
    from model_stage.types import Answer, RankRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request and its answer. Holds what answering made of them, copies nothing."""

    request_id: str
    served_ms: int
    """This machine's clock, milliseconds UTC."""
    request: RankRequest
    answer: Answer
    bundle: Bundle
    """What scored it."""

    @property
    def num_rows(self) -> int:
        """Number of impressions."""
        return len(self.request.candidates)

    @property
    def num_bytes(self) -> int:
        """About what it weighs while it waits."""
        found, request = self.answer.found, self.request
        held = (found, found.behaviors, found.statistics, request.candidates)
        fields = (found.candidate_fields, found.behavior_fields, request.candidate_fields)
        columns = [getattr(each, name) for each in held for name in each.__dataclass_fields__]
        columns += [column for each in fields for column in each.values()]
        arrays = [column.values if isinstance(column, Lists) else column for column in columns]
        return 1024 + sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
