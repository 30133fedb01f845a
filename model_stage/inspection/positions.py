"""What the positional encodings of each target have learned, read from the attention of the network itself.

Two behaviors that are alike in everything but one thing (how old, at which position, how far hard search climbed) share
the attention of a candidate. The share of the one at x beside the one at the reference point x0 is

    r(x) = weight(x) / weight(x0)        share(x) = r(x) / (1 + r(x))

so that 0.5 means "as much as at x0", 0.75 three times as much. For an attention by softmax with additive positions
(TIN) it is sigmoid(<q, p(x) - p(x0)> / sqrt(d)) with q the candidate's query: the effect of the table's rows on the
scores, and nothing else. Every network that gives attention weights is read in the same way, with no look into it.

A share is the mean over candidates of up to 64 categories of the vocabulary, each beside behaviors of its own category;
candidates that give no attention to either behavior (a block may look at some only) do not count.
Time intervals and calendar phases both move with the age of a behavior: a curve over either shows them together.

Legend: C candidates, G grid points, K behaviors of one candidate, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.config.targets import PERIOD_MS, CalendarPosition, IntervalPosition, MatchLevelPosition, RankPosition
from model_stage.encoding.batch import collate
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from store.retrieval import NO_LEVEL
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from model_stage.bundle import Bundle
    from model_stage.config.targets import Position, Target

MAX_CATEGORIES = 64
MAX_RANKS = 64
"""Positions beyond it are not drawn."""
INTERVAL_POINTS = 25
FIRST_INTERVAL_MS = 3_600_000
"""Where intervals begin. Their reference point is a day: what is younger may never have been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The points at which one thing is read."""

    name: str
    """`interval`, `calendar:<period>`, `rank` or `match_level`."""
    unit: str
    x: tuple[float, ...]
    """(G,)"""
    labels: tuple[str, ...]
    """(G,)"""
    reference: int = 0
    """Which of them is x0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What the targets that encode one thing have learned of it."""

    grid: Grid
    share: dict[str, tuple[float, ...]]
    """Per target (G,); NaN where no candidate gives attention to either behavior."""


def learned(bundle: Bundle, grids: Sequence[Grid], targets: Sequence[str]) -> list[Curves]:
    """Reads the curves of some targets over every grid that one of them encodes."""
    chosen = [target for target in bundle.targets.targets if target.name in targets]
    found = []
    for grid in grids:
        encoding = [target.name for target in chosen if grid.name in {_name(p) for p in target.positions}]
        if encoding:
            share_GT = _shares(bundle, grid)
            column = {name: bundle.targets.names.index(name) for name in encoding}
            share = {name: tuple(share_GT[:, at].tolist()) for name, at in column.items()}
            found.append(Curves(grid=grid, share=share))
    return found


def grids_of(targets: Sequence[Target]) -> list[Grid]:
    """Gives one grid for each thing that the targets encode, wide enough for all of them."""
    by_name: dict[str, list[Position]] = {}
    for position in (p for target in targets for p in target.positions):
        by_name.setdefault(_name(position), []).append(position)
    return [_grid(name, positions) for name, positions in sorted(by_name.items())]


def _name(position: Position) -> str:
    return f"calendar:{position.period}" if isinstance(position, CalendarPosition) else position.kind


def _grid(name: str, positions: Sequence[Position]) -> Grid:
    first = positions[0]
    match first:
        case IntervalPosition():
            days = max(p.span_days for p in positions if isinstance(p, IntervalPosition))
            ages = np.geomspace(FIRST_INTERVAL_MS / DAY_MS, max(days, 1.0), INTERVAL_POINTS).tolist()
            day = int(np.abs(np.log(ages)).argmin())
            return Grid(name=name, unit="age", x=tuple(ages), labels=tuple(map(_age, ages)), reference=day)
        case CalendarPosition():
            points = 2 * max(p.buckets for p in positions)
            phases = (np.arange(points) * (PERIOD_MS[first.period] / DAY_MS / points)).tolist()
            labels = tuple(f"+{_age(day)}" for day in phases)
            return Grid(name=name, unit=f"days past one {first.period}", x=tuple(phases), labels=labels)
        case RankPosition():
            ranks = range(1, min(max(p.buckets for p in positions), MAX_RANKS) + 1)
            return Grid(name=name, unit="position from the newest", x=tuple(ranks), labels=tuple(map(str, ranks)))
        case MatchLevelPosition():
            levels = range(max(p.levels for p in positions if isinstance(p, MatchLevelPosition)))
            x = (*map(float, levels), float(len(levels)))
            return Grid(name=name, unit="levels climbed", x=x, labels=(*map(str, levels), "not found"))


def _age(days: float) -> str:
    return f"{days * 24:.1f} h" if days < 1 else f"{days:.1f} d"


def _shares(bundle: Bundle, grid: Grid) -> npt.NDArray[np.float64]:
    """Gives the share at every point of a grid. float64 (G, T)."""
    ratio_GCT = _rank_ratios(bundle, grid) if grid.name == "rank" else _pair_ratios(bundle, grid)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative_GCT = ratio_GCT / ratio_GCT[grid.reference]
        share_GCT = np.where(np.isinf(relative_GCT), 1.0, relative_GCT / (1.0 + relative_GCT))
        known_GCT = ~np.isnan(share_GCT)
        shares: npt.NDArray[np.float64] = np.where(known_GCT, share_GCT, 0.0).sum(axis=1) / known_GCT.sum(axis=1)
    return shares


def _rank_ratios(bundle: Bundle, grid: Grid) -> npt.NDArray[np.float64]:
    """Gives the weights in one long list of equal behaviors of one age, newest first. (G, C, T)."""
    num_points = len(grid.x)
    categories = sample_categories(bundle, MAX_CATEGORIES)
    weight_MT = _weights(bundle, categories, [([DAY_MS] * num_points, [0] * num_points)])
    return weight_MT.reshape(len(categories), num_points, -1)[:, ::-1].transpose(1, 0, 2)


def _pair_ratios(bundle: Bundle, grid: Grid) -> npt.NDArray[np.float64]:
    """Gives weight(probe) / weight(companion) for lists of two, the companion the same in all of them. (G, C, T)."""
    categories = sample_categories(bundle, MAX_CATEGORIES)
    weight_MT = _weights(bundle, categories, [_pair(grid, x) for x in grid.x])
    weight_GCKT = weight_MT.reshape(len(grid.x), len(categories), 2, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: npt.NDArray[np.float64] = weight_GCKT[:, :, 0] / weight_GCKT[:, :, 1]
    return ratio


def _pair(grid: Grid, x: float) -> tuple[list[int], list[int]]:
    """Gives ages and match levels of a probe, the older one, and of its companion."""
    if grid.name == "match_level":
        level = NO_LEVEL if x == grid.x[-1] else int(x)
        return [DAY_MS, DAY_MS], [level, 0]
    age_ms = x * DAY_MS
    if grid.name.startswith("calendar:"):
        age_ms += PERIOD_MS[grid.name.removeprefix("calendar:")]
    return [round(age_ms), FIRST_INTERVAL_MS], [0, 0]


def _weights(
    bundle: Bundle, categories: npt.NDArray[np.uint64], lists: Sequence[tuple[list[int], list[int]]]
) -> npt.NDArray[np.float64]:
    """Gives the attention weights of requests that differ in their behaviors' ages and match levels. (M, T)."""
    encoder = bundle.encoder
    # Blocks that read a user's sequence must see the one list and no other.
    groups = categories[:, None] if bundle.network_config.preset.newest_read else [categories]
    encoded = [
        encoder.encode(*synthetic_request(bundle, group, ages_ms, levels))
        for ages_ms, levels in lists
        for group in groups
    ]
    with torch.inference_mode():
        weights: npt.NDArray[np.float64] = bundle.network(collate(encoded)).weight_MT.double().numpy()
    return weights
