"""The pictures of the page, as SVG text that stands in it: narrow enough that words stay readable on a phone.

matplotlib is not typed here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from model_stage.inspection.plot import draw_curves
from store.terminal import new_figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from model_stage.evaluation.metrics import Interval
    from model_stage.evaluation.reliability import ReliabilityBin
    from model_stage.evaluation.verdict import Verdict
    from model_stage.inspection.positions import Curves
    from model_stage.report.content import BundleReport, SliceReport

WIDTH_IN = 3.9
ROW_IN = 0.22
_OURS, _THEIRS = "tab:blue", "0.55"
_RARE = 0.05
"""Below it probabilities are drawn on logarithmic axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture."""

    title: str
    """What it shows, also for those who cannot see it."""
    svg: str


def gains_picture(verdict: Verdict) -> Picture:
    """Draws the interval of every gain, and how far it may reach below 0."""

    def draw(axes: Any) -> None:  # noqa: ANN401
        names = [f"{gain.target}\n{gain.metric}" for gain in verdict.gains]
        for at, gain in enumerate(verdict.gains):
            color = "tab:green" if gain.low > 0.0 else "tab:red" if gain.high < 0.0 else _THEIRS
            _draw_interval(axes, at, gain.gain, (gain.low, gain.high), color)
        axes.axvline(0.0, color="0.3", linewidth=0.8)
        axes.axvline(-verdict.tolerance, color="tab:red", linewidth=0.8, linestyle=":")
        axes.set(xlabel="gain; dotted: the tolerance")
        _name_rows(axes, names)

    height = 0.9 + 1.7 * ROW_IN * len(verdict.gains)
    return _picture("gains over the other bundle, with intervals", height, draw)


def reliability_picture(target: str, ours: Sequence[ReliabilityBin], theirs: Sequence[ReliabilityBin]) -> Picture:
    """Draws frequency over probability, bin by bin; 95 % intervals by Wilson, as if rows were independent."""

    def draw(axes: Any) -> None:  # noqa: ANN401
        from matplotlib import ticker
        from scipy.stats import binomtest

        for bins, color in ((theirs, _THEIRS), (ours, _OURS)):
            x = [each.mean_probability for each in bins]
            share = [each.positives / each.rows for each in bins]
            spans = [binomtest(each.positives, each.rows).proportion_ci(method="wilson") for each in bins]
            below = [max(y - span.low, 0.0) for y, span in zip(share, spans, strict=True)]
            above = [max(span.high - y, 0.0) for y, span in zip(share, spans, strict=True)]
            axes.errorbar(x, share, yerr=(below, above), fmt="o-", markersize=3, linewidth=0.9, color=color)
        points = [max(each.mean_probability, 1e-6) for each in (*ours, *theirs)]
        axes.plot([min(points), max(points)], [min(points), max(points)], color="0.7", linestyle="--", zorder=0)
        if min(points) < _RARE:
            axes.set(xscale="log", yscale="log", ylim=(min(points) / 4, 1.0))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set(major_locator=ticker.LogLocator(subs=(1.0, 3.0)), major_formatter="{x:g}")
                axis.set_minor_locator(ticker.NullLocator())
        axes.set(xlabel="probability said", ylabel="share of positives")

    return _picture(f"reliability of {target}", 2.9, draw)


def slices_picture(target: str, ours: Sequence[SliceReport], theirs: Sequence[SliceReport]) -> Picture:
    """Draws the AUC of a target on every slice with its interval; that of the other bundle in grey."""
    other = {(each.kind, each.label): each.targets.get(target) for each in theirs}
    rows = [*_slice_rows(ours)]

    def draw(axes: Any) -> None:  # noqa: ANN401
        for at, (_, cut) in enumerate(rows):
            if cut is None:
                continue
            pair = ((other.get((cut.kind, cut.label)), at + 0.3, _THEIRS), (cut.targets[target], at, _OURS))
            for numbers, place, color in pair:
                if numbers is not None and numbers.auc is not None:
                    _draw_interval(axes, place, numbers.auc.value, (numbers.auc.low, numbers.auc.high), color)
        axes.axvline(0.5, color="0.8", linewidth=0.8, zorder=0)
        axes.set(xlabel="AUC within the slice")
        _name_rows(axes, [label for label, _ in rows])

    return _picture(f"AUC of {target} by slice", 0.8 + ROW_IN * len(rows), draw)


def slice_gains_picture(target: str, cuts: Sequence[SliceReport]) -> Picture:
    """Draws by how much AUC differs from the other bundle's on every slice."""
    rows = [*_slice_rows(cuts)]

    def draw(axes: Any) -> None:  # noqa: ANN401
        for at, (_, cut) in enumerate(rows):
            gain: Interval | None = None if cut is None else cut.targets[target].gain
            if gain is not None:
                _draw_interval(axes, at, gain.difference, (gain.low, gain.high), _OURS)
        axes.axvline(0.0, color="0.3", linewidth=0.8)
        axes.set(xlabel="AUC less that of the other bundle")
        _name_rows(axes, [label for label, _ in rows])

    return _picture(f"gain in AUC of {target} by slice", 0.8 + ROW_IN * len(rows), draw)


def epochs_pictures(training: Mapping[str, Any]) -> Iterator[Picture]:
    """Draws what training measured epoch by epoch: validation AUC, and the health of tables and attentions."""
    aucs = training.get("validation_auc", [])
    if aucs:
        lines = {target: [epoch[target] for epoch in aucs] for target in aucs[0]}
        yield _lines_picture("AUC on validation requests, by epoch", "AUC", lines)
    health = training.get("health", [])
    if not health:
        return
    tables = {
        name: [epoch["tables"][name]["effective_rank"] / epoch["tables"][name]["directions"] for epoch in health]
        for name in health[0]["tables"]
    }
    if tables:
        yield _lines_picture("effective rank of tables, of what it could be", "share", tables)
    attentions = {name: [epoch["attentions"][name]["entropy"] for epoch in health] for name in health[0]["attentions"]}
    if attentions:
        yield _lines_picture("entropy of attentions, 1 = a mean", "entropy", attentions)


def curves_pictures(ours: BundleReport, theirs: BundleReport | None) -> Iterator[Picture]:
    """Draws what the targets have learned of each encoding; that of the other bundle dashed."""
    other: Sequence[Curves] = () if theirs is None else theirs.curves
    for curves in ours.curves:
        yield _picture(f"learned: {curves.grid.name}", 2.9, partial(draw_curves, learned=curves, other=other))


def _slice_rows(cuts: Sequence[SliceReport]) -> Iterator[tuple[str, SliceReport | None]]:
    """Gives a row for each kind of slice, without a slice, and one for each slice below it."""
    for kind, some in groupby(cuts, key=lambda cut: cut.kind):
        yield f"{kind}:", None
        for cut in some:
            yield cut.label, cut


def _lines_picture(title: str, what: str, lines: Mapping[str, Sequence[float]]) -> Picture:
    def draw(axes: Any) -> None:  # noqa: ANN401
        for name, values in lines.items():
            axes.plot(range(1, len(values) + 1), values, marker=".", label=name)
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize="x-small")

    return _picture(title, 2.9, draw)


def _draw_interval(axes: Any, at: float, value: float, ends: tuple[float, float], color: str) -> None:  # noqa: ANN401
    axes.plot(ends, (at, at), color=color, linewidth=1.6)
    axes.plot([value], [at], marker="o", markersize=3.5, color=color)


def _name_rows(axes: Any, names: Sequence[str]) -> None:  # noqa: ANN401
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _picture(title: str, height: float, draw: Callable[[Any], None]) -> Picture:
    figure = new_figure(WIDTH_IN, height)
    import matplotlib

    # Words stay words, and the same figure is the same text: its ids are hashed with the title.
    with matplotlib.rc_context({"font.size": 8.5, "svg.fonttype": "none", "svg.hashsalt": title}):
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    written = text.getvalue()
    return Picture(title=title, svg=written[written.index("<svg") :])
