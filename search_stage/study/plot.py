"""The report as a picture: NDCG by ranking, the worth that lists hold by length, what climbing finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_stage.study.quality import LENGTHS, RANKINGS
from store.terminal import new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from search_stage.study.coverage import Coverage
    from search_stage.study.quality import Quality
    from search_stage.study.study import RecallReport

_COLORS = {"soft": "tab:blue", "hard": "tab:orange", "newest": "tab:green", "random": "0.7", "best": "0.2"}


def save_plot(report: RecallReport, path: Path) -> None:
    """Draws the report and writes it as a PNG file.

    Raises:
        MatplotlibMissingError: matplotlib is not installed.
        StoreIOError: The file cannot be written.
    """
    count = len(report.quality)
    figure = new_figure(12, 3.4 * (count + 1))
    axes = figure.subplots(count + 1, 2)
    for (what, quality), (left, right) in zip(report.quality.items(), axes, strict=False):
        _draw_ndcg(left, what, quality)
        _draw_shares(right, what, quality)
    _draw_levels(axes[-1][0], report.coverage, lambda domain: domain.any_match, "at least one match")
    _draw_levels(axes[-1][1], report.coverage, lambda domain: domain.enough, "min_matches or more")
    save_figure(figure, path)


def _draw_ndcg(axes: Any, what: str, quality: Quality) -> None:  # noqa: ANN401 (matplotlib is not typed here)
    means = [quality.ndcg[name].mean for name in RANKINGS]
    below = [quality.ndcg[name].mean - quality.ndcg[name].low for name in RANKINGS]
    above = [quality.ndcg[name].high - quality.ndcg[name].mean for name in RANKINGS]
    axes.bar(RANKINGS, means, yerr=(below, above), capsize=4, color=[_COLORS[name] for name in RANKINGS])
    axes.set(title=f"search NDCG@20, {what}", ylim=(0, 1))


def _draw_shares(axes: Any, what: str, quality: Quality) -> None:  # noqa: ANN401
    for name in ("best", *RANKINGS):
        axes.plot(LENGTHS, quality.shares[name], marker="o", label=name, color=_COLORS[name])
    axes.set(title=f"share of the worth, {what}", xlabel="behaviors in the list", xscale="log", ylim=(0, 1.02))
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.minorticks_off()
    axes.legend(loc="lower right")


def _draw_levels(axes: Any, coverage: Coverage, part: Callable[..., tuple[float, ...]], what: str) -> None:  # noqa: ANN401
    for domain in coverage.domains:
        axes.plot(range(len(domain.any_match)), part(domain), marker="o", label=domain.domain)
    axes.set(title=f"share of candidates with {what}", xlabel="match level, or below", ylim=(0, 1.02))
    axes.set_xticks(range(max((len(domain.any_match) for domain in coverage.domains), default=0)))
    if coverage.domains:
        axes.legend()
