"""The reference window: what a bundle's probabilities were like on the rows it was calibrated on.

It stands in `metrics.json` of a bundle, by target; servers compare what they answer with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.types import F32, F64, I64, AnyArray

BINS = 10
"""Of about equally many rows each; fewer where many probabilities are equal."""
LEAST_SHARE = 1e-4
"""A bin counts as no emptier than this: the index would be infinite."""
KEY = "reference"


class TargetReference(BaseModel):
    """Of one target."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bounds: tuple[float, ...]
    """Inner bounds of the bins, ascending."""
    share: tuple[float, ...]
    """Of the rows in each bin, one more than there are bounds."""
    mean_probability: float
    positive_rate: float
    rows: int
    from_ms: int
    """Time of the first row, milliseconds UTC."""
    until_ms: int

    def bins(self, probability: F32) -> I64:
        """Counts probabilities by bin."""
        at = np.searchsorted(self.bounds, probability, side="right")
        return np.bincount(at, minlength=len(self.share))

    def stability_index(self, counts: F64) -> float:
        """Gives how far counts by bin are from the reference: 0 = alike; above 0.25 is called a major shift.

        Source: population stability index, sum of (p - q) ln(p / q) over the bins.
        """
        now = np.maximum(counts / counts.sum(), LEAST_SHARE)
        then = np.maximum(np.array(self.share), LEAST_SHARE)
        return float(np.sum((now - then) * np.log(now / then)))


_BY_TARGET: TypeAdapter[dict[str, TargetReference]] = TypeAdapter(dict[str, TargetReference])


def reference_window(labels: F32, probability: AnyArray, names: Sequence[str], timestamp_ms: I64) -> dict[str, Any]:
    """Gives what `metrics.json` is to say of the rows a bundle was calibrated on.

    Args:
        labels: 1 / 0 / NaN = unknown. (N, T)
        probability: What the bundle says. (N, T)
        names: The T targets; one without a known label is left out.
        timestamp_ms: Of each row. (N,)
    """
    found = {}
    for at, name in enumerate(names):
        known = ~np.isnan(labels[:, at])
        if not known.any():
            continue
        said, times = probability[known, at], timestamp_ms[known]
        bounds = np.unique(np.quantile(said, np.arange(1, BINS) / BINS)).tolist()
        draft = TargetReference(
            bounds=bounds,
            share=(1.0,) * (len(bounds) + 1),
            mean_probability=float(said.mean(dtype=np.float64)),
            positive_rate=float(labels[known, at].mean(dtype=np.float64)),
            rows=len(said),
            from_ms=int(times.min()),
            until_ms=int(times.max()),
        )
        found[name] = draft.model_copy(update={"share": tuple((draft.bins(said) / len(said)).tolist())})
    return _BY_TARGET.dump_python(found, mode="json")  # type: ignore[no-any-return]


def read_reference(metrics: Mapping[str, Any]) -> dict[str, TargetReference]:
    """Gives the references that a bundle's metrics hold; none where it was trained by an earlier version."""
    try:
        return _BY_TARGET.validate_python(metrics.get(KEY, {}))
    except ValidationError:
        return {}
