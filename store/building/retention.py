"""What a build keeps of a user's past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError

if TYPE_CHECKING:
    from store.types import I64, AnyArray, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Limits on age and number; the default keeps everything."""

    not_before_ms: int | None = None
    """Events before this time are dropped, milliseconds UTC; None = none are."""
    max_per_domain: int | None = None
    """Of a user's events in one domain only the newest that many stay; None = all."""

    def __post_init__(self) -> None:
        if self.max_per_domain is not None and self.max_per_domain < 1:
            raise InputError(f"max_per_domain: must be at least 1, is {self.max_per_domain}")

    def keep(self, owner: I64, domain: AnyArray, timestamp_ms: I64) -> Bool:
        """Gives which events stay.

        Args:
            owner: Running number of each event's user, ascending. (N,)
            domain: Domain codes. (N,)
            timestamp_ms: Ascending within a user. (N,)
        """
        kept = np.ones(len(owner), np.bool_)
        if self.not_before_ms is not None:
            kept &= timestamp_ms >= self.not_before_ms
        if self.max_per_domain is not None and len(owner):
            order = np.lexsort((domain, owner))  # stable: in time order within (owner, domain)
            group = owner[order].astype(np.int64) * 256 + domain[order]
            ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(group))
            newer = np.repeat(ends, np.diff(np.append(0, ends))) - 1 - np.arange(len(group))
            kept[order[newer >= self.max_per_domain]] = False
        return kept
