"""How two bundles differ: configuration, numbers, weights, and what their positional encodings have learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_stage.inspection.positions import grids_of, learned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model_stage.bundle import Bundle
    from model_stage.inspection.facts import BundleFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key with two values; None = not there."""

    key: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChange:
    """How far one parameter moved."""

    name: str
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    """In the one bundle and in the other; None = not there."""
    change: float | None
    """Norm of the difference over the norm of the first; None where the shapes differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChange:
    """How far what a target learned of one positional encoding moved; see `model_stage.inspection.positions`."""

    target: str
    encoding: str
    largest: float
    """Largest difference of a share."""
    at: str
    """Where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDiff:
    """What `lookback-model bundle diff` says."""

    left: str
    right: str
    config: tuple[Difference, ...]
    metrics: tuple[Difference, ...]
    weights: tuple[WeightChange, ...]
    """Those that differ."""
    positions: tuple[PositionChange, ...]
    """Of the targets and encodings that both have."""


def diff_bundles(left: tuple[Bundle, BundleFacts], right: tuple[Bundle, BundleFacts]) -> BundleDiff:
    """Compares two opened bundles."""
    (one, one_facts), (other, other_facts) = left, right
    measured = (one.metrics.get("validation", {}), other.metrics.get("validation", {}))
    parts = ("network", "schema", "targets", "provenance", "calibration")
    config: list[Difference] = []
    for part in parts:
        config += differences(getattr(one_facts, part), getattr(other_facts, part), part)
    return BundleDiff(
        left=one.name,
        right=other.name,
        config=tuple(config),
        metrics=tuple(differences(*measured, "validation")),
        weights=tuple(_weight_changes(one, other)),
        positions=tuple(_position_changes(one, other)),
    )


def differences(left: object, right: object, key: str) -> Iterator[Difference]:
    """Gives the keys of two nested configurations whose values differ; a list's keys are its positions."""
    ours, theirs = _children(left), _children(right)
    if ours is None or theirs is None:
        if left != right:
            yield Difference(key=key, left=left, right=right)
        return
    for name in dict.fromkeys((*ours, *theirs)):
        yield from differences(ours.get(name), theirs.get(name), f"{key}.{name}")


def _children(value: object) -> Mapping[str, object] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return {str(at): each for at, each in enumerate(value)}
    return None


def _weight_changes(one: Bundle, other: Bundle) -> Iterator[WeightChange]:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    for name in dict.fromkeys((*ours, *theirs)):
        left, right = ours.get(name), theirs.get(name)
        shapes = (None if left is None else tuple(left.shape), None if right is None else tuple(right.shape))
        if left is None or right is None or shapes[0] != shapes[1]:
            yield WeightChange(name=name, shapes=shapes, change=None)
            continue
        moved, size = float((right.double() - left.double()).norm()), float(left.double().norm())
        if moved > 0.0:
            yield WeightChange(name=name, shapes=shapes, change=moved / size if size > 0.0 else float("inf"))


def _position_changes(one: Bundle, other: Bundle) -> Iterator[PositionChange]:
    grids = grids_of((*one.targets.targets, *other.targets.targets))
    theirs = {curves.grid.name: curves for curves in learned(other, grids, other.targets.names)}
    for curves in learned(one, grids, one.targets.names):
        if curves.grid.name not in theirs:
            continue
        for target, share in curves.share.items():
            compared = theirs[curves.grid.name].share.get(target)
            gap = np.abs(np.subtract(compared, share)) if compared is not None else np.array([np.nan])
            if np.isfinite(gap).any():
                at = int(np.nanargmax(gap))
                label = curves.grid.labels[at]
                yield PositionChange(target=target, encoding=curves.grid.name, largest=float(gap[at]), at=label)
