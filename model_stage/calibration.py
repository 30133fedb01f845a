"""Calibration: from a target's logit to a probability that is right on average, fitted after training.

    platt      p = sigmoid(slope * logit + intercept), slope > 0
    isotonic   p = straight lines between knots (logit, probability), level beyond the first and the last
    identity   p = sigmoid(logit), for a target without an entry

Each never falls as the logit grows and stays within 0 .. 1. A bundle holds them as `calibration.json`; fitting is in
`model_stage.training.calibrate`.

Legend: B candidates, T targets, K knots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

from model_stage.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from store.types import F64

CALIBRATION_FILE = "calibration.json"
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class _Fitted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Platt(_Fitted):
    """Two numbers. Source: Platt, "Probabilistic outputs for support vector machines", 1999."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[FiniteFloat, Field(gt=0.0)]
    intercept: FiniteFloat

    def probability(self, logit_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gives the probabilities. float64 (B,)."""
        with np.errstate(over="ignore"):
            return sigmoid(self.slope * logit_B + self.intercept)


class Isotonic(_Fitted):
    """A curve that never falls. Source: Zadrozny and Elkan, KDD 2002."""

    kind: Literal["isotonic"] = "isotonic"
    logit: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    """Where the knots lie, ascending. (K,)"""
    probability_at: tuple[Probability, ...]
    """The probability at each knot, never falling. (K,)"""

    @model_validator(mode="after")
    def _never_falls(self) -> Isotonic:
        if len(self.logit) != len(self.probability_at):
            raise ValueError(f"{len(self.logit)} logits and {len(self.probability_at)} probabilities, one each needed")
        if any(left >= right for left, right in pairwise(self.logit)):
            raise ValueError("logit: must ascend")
        if any(left > right for left, right in pairwise(self.probability_at)):
            raise ValueError("probability_at: must not fall")
        return self

    def probability(self, logit_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Gives the probabilities. float64 (B,)."""
        return np.interp(logit_B, *self._knots)

    @cached_property
    def _knots(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return np.array(self.logit), np.array(self.probability_at)


TargetCalibration = Annotated[Platt | Isotonic, Field(discriminator="kind")]
_BY_TARGET: TypeAdapter[dict[str, TargetCalibration]] = TypeAdapter(dict[str, TargetCalibration])


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is applied to the logits of each target; the identity where there is no entry."""

    by_target: Mapping[str, Platt | Isotonic] = field(default_factory=lambda: MappingProxyType({}))

    def probabilities(self, logit_BT: npt.ArrayLike, names: Sequence[str], given: Sequence[int | None] = ()) -> F64:
        """Gives a probability for each logit, 0 to 1. float64 (B, T): float32 has few different ones near 1.

        Targets are fitted each on its own: one that is conditional on another is lowered to that one where it would be
        the more probable of the two.

        Args:
            logit_BT: What the network says; infinite ones are allowed.
            names: The T targets.
            given: Column of each target's condition, see `Targets.given`; empty = none has any.
        """
        logits = np.asarray(logit_BT, dtype=np.float64)
        out = np.empty(logits.shape)
        for at, name in enumerate(names):
            fitted = self.by_target.get(name)
            out[:, at] = sigmoid(logits[:, at]) if fitted is None else fitted.probability(logits[:, at])
        for at in range(len(given)):
            condition = given[at]
            while condition is not None:
                np.minimum(out[:, at], out[:, condition], out=out[:, at])
                condition = given[condition]
        return out

    def kind(self, target: str) -> str:
        """Gives `platt`, `isotonic` or `identity`."""
        fitted = self.by_target.get(target)
        return "identity" if fitted is None else fitted.kind

    def to_json(self) -> str:
        """Gives the content of `calibration.json`; numbers survive the way there and back to the bit."""
        return _BY_TARGET.dump_json(dict(self.by_target), indent=1).decode()


def read_calibration(path: Path, targets: Sequence[str]) -> Calibration:
    """Reads `calibration.json`.

    Raises:
        BundleError: It is no JSON, breaks the form, or names a target that the bundle does not have; names file and
            key.
    """
    try:
        by_target = _BY_TARGET.validate_json(path.read_bytes())
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{path}: {where}: {first['msg']}; train the bundle anew") from exc
    for name in by_target:
        if name not in targets:
            raise BundleError(f"{path}: {name}: no such target, this bundle has {', '.join(targets)}; train it anew")
    return Calibration(by_target=by_target)


def sigmoid(logit_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gives 1 / (1 + exp(-logit)) without overflow; 0 and 1 at the infinities."""
    small = np.exp(-np.abs(logit_B))
    return np.where(logit_B >= 0.0, 1.0, small) / (1.0 + small)
