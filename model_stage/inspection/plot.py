"""Pictures for people: learned positional encodings, and the explanation of one score. Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.retrieval import SOURCE_NAMES
from store.terminal import new_figure, save_figure
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_stage.inspection.positions import Curves
    from model_stage.types import ExplainResult

_COLORS = {"hard": "tab:orange", "soft": "tab:blue", "recent": "0.6"}


def plot_positions(path: Path, bundle: str, curves: Sequence[Curves], against: str, other: Sequence[Curves]) -> None:
    """Draws a panel per encoding with a line per target; those of the other bundle dashed. Writes a PNG file."""
    figure = new_figure(6.0 * len(curves), 3.8)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, learned in zip(panels, curves, strict=True):
        draw_curves(axes, learned, other)
    figure.suptitle(f"attention learned by bundle {bundle}" + (f", dashed: {against}" if against else ""))
    save_figure(figure, path)


def draw_curves(axes: Any, learned: Curves, other: Sequence[Curves]) -> None:  # noqa: ANN401 (matplotlib is not typed here)
    """Draws what the targets have learned of one encoding, a line per target; that of the other bundle dashed."""
    x = range(len(learned.grid.x)) if learned.grid.name == "match_level" else learned.grid.x
    for at, (target, share) in enumerate(learned.share.items()):
        axes.plot(x, share, marker=".", color=f"C{at}", label=target)
        for compared in other:
            if compared.grid.name == learned.grid.name and target in compared.share:
                axes.plot(x, compared.share[target], linestyle="--", color=f"C{at}")
    axes.axhline(0.5, color="0.8", zorder=0)
    grid = learned.grid
    unit = "age, days" if grid.name == "interval" else grid.unit
    axes.set(title=grid.name, xlabel=unit, ylabel=f"share beside {grid.labels[grid.reference]}")
    if grid.name == "interval":
        axes.set_xscale("log")
    if grid.name == "match_level":
        axes.set_xticks(x, grid.labels)
    axes.legend(fontsize="small")


def plot_explanation(path: Path, explained: ExplainResult, as_of_ms: int) -> None:
    """Draws attention over age for each target, by source, and what each part adds to the logit. Writes a PNG file."""
    count = len(explained.targets)
    figure = new_figure(6.0 * (count + 1), 3.8)
    panels = figure.subplots(1, count + 1, squeeze=False)[0]
    for at, target in enumerate(explained.targets):
        axes = panels[at]
        for bit, name in SOURCE_NAMES:
            found = [b for b in explained.behaviors if b.source & bit]
            ages = [(as_of_ms - b.timestamp_ms) / DAY_MS for b in found]
            axes.scatter(ages, [b.attention[at] for b in found], s=18, color=_COLORS[name], label=name, alpha=0.7)
        title = f"{target}: p = {explained.probability[at]:.4f}"
        axes.set(title=title, xlabel="age of the behavior, days", ylabel="attention weight", ylim=(0, None))
        axes.legend()
    width = 0.8 / max(count, 1)
    for at, target in enumerate(explained.targets):
        place = [row + at * width for row in range(len(explained.contributions))]
        panels[-1].barh(place, [each.logit[at] for each in explained.contributions], height=width, label=target)
    panels[-1].set_yticks(
        [row + 0.4 - width / 2 for row in range(len(explained.contributions))],
        [each.part for each in explained.contributions],
    )
    panels[-1].axvline(0.0, color="0.6")
    panels[-1].set(title="logit with it less logit without it")
    panels[-1].legend()
    figure.suptitle(f"behind candidate {explained.candidate_name}")
    save_figure(figure, path)
