"""What the page says, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_stage.evaluation.health import SHARP
from model_stage.evaluation.verdict import rule
from model_stage.report.figures import (
    curves_pictures,
    epochs_pictures,
    gains_picture,
    reliability_picture,
    slice_gains_picture,
    slices_picture,
)
from model_stage.report.measure import SLICE_RESAMPLES
from model_stage.report.page import HtmlTable, Section, render
from store.terminal import size_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from model_stage.evaluation.metrics import Estimate
    from model_stage.evaluation.verdict import Verdict
    from model_stage.report.content import BundleReport, Report, SliceReport


def page_of(report: Report) -> str:
    """Gives the page as HTML."""
    name, against = report.bundle.facts.name, report.against
    title = f"Bundle {name}" + (f" beside {against.facts.name}" if against is not None else "")
    lead = (
        f"{report.split} split of {report.dataset}: {report.impressions:,} impressions of {report.users:,} users, "
        f"{time_text(report.from_ms)} to {time_text(report.until_ms)} UTC."
    )
    return render(title, lead, [*_sections(report)])


def _sections(report: Report) -> Iterator[Section]:
    both = [each for each in (report.bundle, report.against) if each is not None]
    if report.verdict is not None:
        yield _verdict_section(report.verdict)
    yield _metrics_section(both)
    yield _slices_section(report)
    yield _reliability_section(report)
    for each in both:
        yield _health_section(each)
    yield _curves_section(report)
    yield _cost_section(both)
    yield _versions_section(report, both)


def _verdict_section(verdict: Verdict) -> Section:
    return Section(
        title="Verdict",
        outcome=verdict.outcome,
        reasons=verdict.reasons,
        texts=rule(verdict.tolerance, verdict.resamples),
        tables=[
            HtmlTable(
                columns=("target", "metric", "this bundle", "the other", "gain", "interval"),
                rows=[
                    (
                        gain.target,
                        gain.metric,
                        f"{gain.ours:.4f}",
                        f"{gain.theirs:.4f}",
                        f"{gain.gain:+.4f}",
                        f"[{gain.low:+.4f}, {gain.high:+.4f}]",
                    )
                    for gain in verdict.gains
                ],
            )
        ],
        pictures=[gains_picture(verdict)] if verdict.gains else [],
    )


def _metrics_section(both: Sequence[BundleReport]) -> Section:
    columns = (
        "target",
        "AUC",
        "GAUC",
        "log loss",
        "before calibration",
        "calibration error",
        "positives",
        "impressions",
    )
    return Section(
        title="Metrics",
        texts=["Intervals: 95 %, users drawn with replacement. GAUC is by user."],
        tables=[
            HtmlTable(
                title=each.facts.name if len(both) > 1 else "",
                columns=columns,
                rows=[
                    (
                        target,
                        *(_estimate(found.intervals.get(metric)) for metric in ("auc", "gauc", "logloss")),
                        f"{found.metrics['logloss_uncalibrated']:.5f}",
                        f"{found.metrics['ece']:.5f}",
                        f"{found.metrics['positives']:,.0f}",
                        f"{found.metrics['impressions']:,.0f}",
                    )
                    for target, found in each.targets.items()
                ],
            )
            for each in both
        ],
    )


def _slices_section(report: Report) -> Section:
    ours, theirs = report.bundle.slices, report.against.slices if report.against is not None else ()
    pictures = [slices_picture(target, ours, theirs) for target in report.bundle.targets]
    if report.verdict is not None:
        shared = dict.fromkeys(gain.target for gain in report.verdict.gains)
        pictures += [slice_gains_picture(target, ours) for target in shared]
    return Section(
        title="Slices",
        texts=[
            "The same impressions cut in five ways: by how many behaviors the user has before the impression, by the "
            "age and the match level of the nearest behavior that hard search found for the candidate, and by whether "
            f"item and user were in an impression that was learned from. Intervals: 95 %, {SLICE_RESAMPLES} resamples, "
            'each by itself: of twenty slices one may lie outside by chance. "-": no rows of both classes.',
            *(["Grey: the other bundle."] if theirs else []),
        ],
        folded=[_slice_table(target, ours, gains=bool(theirs)) for target in report.bundle.targets],
        pictures=pictures,
    )


def _slice_table(target: str, cuts: Sequence[SliceReport], *, gains: bool) -> HtmlTable:
    rows = []
    for cut in cuts:
        found = cut.targets[target]
        gain = found.gain
        rows.append(
            (
                cut.kind,
                cut.label,
                f"{found.impressions:,}",
                f"{cut.users:,}",
                f"{found.positives:,}",
                _estimate(found.auc),
                _estimate(found.gauc),
                *([f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]" if gain else "-"] if gains else []),
            )
        )
    more = ("AUC gained",) if gains else ()
    columns = ("by", "slice", "impressions", "users", "positives", "AUC", "GAUC", *more)
    return HtmlTable(title=f"all slices of {target} in numbers", columns=columns, rows=rows)


def _reliability_section(report: Report) -> Section:
    other = {} if report.against is None else report.against.targets
    return Section(
        title="Reliability",
        texts=[
            "Bins of about equally many impressions by the probability said; bars: 95 % by Wilson, as if impressions "
            "were independent. On the dashed line a probability is the frequency that it says."
            + (" Grey: the other bundle." if other else "")
        ],
        pictures=[
            reliability_picture(target, found.bins, other[target].bins if target in other else ())
            for target, found in report.bundle.targets.items()
        ],
    )


def _health_section(bundle: BundleReport) -> Section:
    title, training = f"Health of {bundle.facts.name}", bundle.facts.metrics.get("training", {})
    if not training.get("health"):
        return Section(title=title, texts=["Training did not measure it: the bundle is of an earlier version."])
    kept = training["health"][training["best_epoch"]]
    tables = [
        (
            name,
            f"{each['norm_median']:.3f}",
            f"{each['norm_p10']:.3f}",
            f"{each['effective_rank']:.1f} of {each['directions']}",
            "-" if each["list_overlap"] is None else f"{each['list_overlap']:.3f}",
        )
        for name, each in kept["tables"].items()
    ]
    attentions = [(name, f"{each['entropy']:.4f}", f"{each['sharp']:.1%}") for name, each in kept["attentions"].items()]
    sharp = f"candidates with a weight above {SHARP:g} x uniform"
    return Section(
        title=title,
        texts=[f"As training measured it at epoch {training['best_epoch'] + 1}, which was kept."],
        warnings=kept["collapsed"],
        tables=[
            HtmlTable(
                title="tables",
                columns=(
                    "table",
                    "norm, start = 1: median",
                    "10th percentile",
                    "effective rank",
                    "overlap of soft lists",
                ),
                rows=tables,
            ),
            HtmlTable(title="attentions", columns=("attention", "entropy, 1 = a mean", sharp), rows=attentions),
        ],
        pictures=[*epochs_pictures(training)],
    )


def _curves_section(report: Report) -> Section:
    found = [*curves_pictures(report.bundle, report.against)]
    text = (
        "How much attention a behavior gets beside one at the reference point that is alike in all else: 0.5 = as "
        "much, 0.75 = three times as much." + (" Dashed: the other bundle." if report.against is not None else "")
    )
    texts = [text] if found else ["No target has a positional encoding."]
    return Section(title="What each target has learned of time", texts=texts, pictures=found)


def _cost_section(both: Sequence[BundleReport]) -> Section:
    rows = []
    for each in both:
        parameters, cost = each.facts.parameters, each.cost
        rows.append(
            (
                each.facts.name,
                f"{sum(parameters.values()):,}",
                size_text(sum(file.bytes for file in each.facts.files.values())),
                f"{cost.request_ms[0]:.2f} ({cost.request_ms[1]:.2f})",
                f"{cost.search_ms[0]:.2f} ({cost.search_ms[1]:.2f})",
                f"{cost.candidates:.1f}",
            )
        )
    first = both[0].cost
    return Section(
        title="Cost",
        texts=[
            f"{first.requests} requests of the split, one after another in one process ({first.machine}); median (95th "
            "percentile) in milliseconds, of a whole request and of search alone."
        ],
        tables=[
            HtmlTable(
                columns=("bundle", "parameters", "files", "request, ms", "search, ms", "candidates, mean"), rows=rows
            )
        ],
    )


def _versions_section(report: Report, both: Sequence[BundleReport]) -> Section:
    tables = [HtmlTable(title=each.facts.name, columns=("what", "value"), rows=[*_version_rows(each)]) for each in both]
    packages = HtmlTable(title="measured with", columns=("package", "version"), rows=[*report.packages.items()])
    return Section(title="Versions", tables=[*tables, packages])


def _version_rows(bundle: BundleReport) -> Iterator[tuple[str, str]]:
    facts, versions = bundle.facts, bundle.versions
    yield "published", f"{time_text(facts.created_ms)} UTC"
    yield "preset", facts.network["preset"]["summary"]
    yield "attention model", facts.attention_model
    yield "store generation read", versions.store_generation
    yield "index generation read", versions.index_generation or "none: without soft search"
    for name, value in facts.provenance.items():
        if name.endswith("_ms"):
            yield name.removesuffix("_ms").replace("_", " "), f"{time_text(value)} UTC" if value else "not recorded"
        else:
            yield name.replace("_", " "), _text(value) or "not recorded"


def _text(value: Any) -> str:  # noqa: ANN401 (provenance holds text and nested configuration)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    return _joined(value) if isinstance(value, list | tuple) else "" if value is None else str(value)


def _joined(values: Iterable[Any]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def _estimate(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
