"""Plots of the report: quality against cost, differences with their intervals, and ways to the ceiling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.terminal import new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Rows = Sequence[dict[str, Any]]

_POINT, _LINE, _WAY = "#2b5c8a", "#999999", "#3a7d44"


def draw_plots(content: dict[str, Any], out: Path) -> dict[str, list[str]]:
    """Draws the plots of every set, as PNG files beside the report; gives their names by set."""
    return {name: list(_of_set(name, parts, out)) for name, parts in content["sets"].items()}


def _of_set(name: str, parts: dict[str, Any], out: Path) -> Iterator[str]:
    drawn = {"cost": _quality_against_cost(name, parts["means"], parts["costs"])}
    if any(row["reference"] == "popularity" for row in parts["differences"]):
        drawn["difference"] = _differences(name, parts["differences"])
    if "world" in parts:
        drawn["way"] = _ways(name, parts["world"])
    for what, figure in drawn.items():
        file = out.with_name(f"{out.stem}-{name}-{what}.png")
        save_figure(figure, file)
        yield file.name


def _quality_against_cost(name: str, means: Rows, costs: Rows) -> Any:  # noqa: ANN401 (matplotlib is not typed here)
    seconds = {row["preset"]: row["train_cpu_s"] for row in costs}
    targets = list(dict.fromkeys(row["target"] for row in means))
    figure = new_figure(6 * len(targets), 4.5)
    for axes, target in zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True):
        for row in means:
            if row["target"] == target and seconds[row["preset"]]:
                at = seconds[row["preset"]], row["auc"]
                axes.errorbar(*at, yerr=row["auc_deviation"], fmt="o", color=_POINT, ecolor=_LINE)
                axes.annotate(row["preset"], at, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set(xscale="log", xlabel="training, seconds of one thread", ylabel="AUC", title=f"{name}: {target}")
        axes.grid(alpha=0.3)
    return figure


def _differences(name: str, differences: Rows) -> Any:  # noqa: ANN401
    rows = [row for row in differences if row["reference"] == "popularity" and row["metric"] == "auc"]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    figure = new_figure(5 * len(targets), 1.2 + 0.28 * len(presets))
    for axes, target in zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True):
        for row in rows:
            if row["target"] != target:
                continue
            place = len(presets) - presets.index(row["preset"])
            for bounds, width in ((row["over_users"], 1.0), (row["over_seeds"], 3.0)):
                if bounds is not None:
                    axes.plot(bounds, [place, place], color=_LINE, linewidth=width)
            axes.plot(row["mean"], place, "o", color=_POINT, markersize=4)
        axes.set_yticks(range(len(presets), 0, -1), presets, fontsize=7)
        axes.axvline(0.0, color="black", linewidth=0.6)
        axes.set(xlabel="AUC less popularity (thick: seeds, thin: users)", title=f"{name}: {target}")
        axes.grid(alpha=0.3)
    return figure


def _ways(name: str, rows: Rows) -> Any:  # noqa: ANN401
    targets = list(dict.fromkeys(row["target"] for row in rows))
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    figure = new_figure(5 * len(targets), 1.2 + 0.28 * len(presets))
    for axes, target in zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True):
        for row in rows:
            if row["target"] == target:
                color = _WAY if row["made_for"] else _POINT
                axes.barh(len(presets) - presets.index(row["preset"]), row["of_mechanism"], color=color)
        axes.set_yticks(range(len(presets), 0, -1), presets, fontsize=7)
        axes.axvline(0.9, color="black", linewidth=0.6, linestyle="--")
        axes.set(xlabel="of the distance between the ceilings", title=f"{name}: {target}", xlim=(-0.1, 1.05))
        axes.grid(alpha=0.3)
    return figure
