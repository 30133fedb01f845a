"""The report as plain tables of text, for the terminal and for Markdown alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_stage.study.lift import FOUND_BELOW
from search_stage.study.quality import LENGTHS, RANKINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from search_stage.study.coverage import Coverage, DomainCoverage, Overlap
    from search_stage.study.lift import LevelLift
    from search_stage.study.quality import Estimate, Quality
    from search_stage.study.study import RecallReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """A table of text."""

    title: str
    note: str
    """What the numbers are."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def report_tables(report: RecallReport) -> Iterator[ReportTable]:
    """Gives every table of a report, in reading order."""
    yield _overlap(report.overlap)
    yield _coverage(report.coverage)
    for domain in report.coverage.domains:
        yield _climb(domain)
    yield _lift(report.lift)
    yield _added(report.lift)
    for what, quality in report.quality.items():
        yield _ndcg(what, quality)
        yield _shares(what, quality)
        yield _policies(what, quality)


def _overlap(overlap: Overlap) -> ReportTable:
    rows = [(name, f"{value:.1f}") for name, value in overlap.means.items()]
    rows += [(name, _percent(value)) for name, value in overlap.shares.items()]
    return ReportTable(
        title="What the lists are made of",
        note=(
            f"Means over {overlap.num_candidates:,} candidates of users with a history, as served; a share leaves out "
            "the candidates for which its whole is empty."
        ),
        columns=("per candidate", "mean"),
        rows=tuple(rows),
    )


def _coverage(coverage: Coverage) -> ReportTable:
    return ReportTable(
        title="Coverage",
        note=f"{coverage.num_candidates:,} candidates in {coverage.num_requests:,} requests.",
        columns=("share of the candidates", ""),
        rows=(
            ("of users without a history", _percent(coverage.without_history)),
            ("with a history, but no match of hard search", _percent(coverage.without_hard)),
            ("of unknown category", _percent(coverage.unmapped_candidates)),
            ("behaviors without a known category, of all listed", _percent(coverage.unmapped_behaviors)),
        ),
    )


def _climb(domain: DomainCoverage) -> ReportTable:
    rows = [
        (str(level), _percent(some), _percent(enough), f"{matches:,.1f}", _percent(stop))
        for level, (some, enough, matches, stop) in enumerate(
            zip(domain.any_match, domain.enough, domain.matches, domain.stops, strict=True)
        )
    ]
    return ReportTable(
        title=f"Climbing in the domain {domain.domain}",
        note=(
            f"At a level or below, shares of all candidates. Served: min_matches {domain.min_matches}, max_level "
            f"{domain.max_level}; {_percent(domain.exhausted)} end there with fewer."
        ),
        columns=("level", "any match", f"{domain.min_matches} or more", "matches, mean", "climbing stops here"),
        rows=tuple(rows),
    )


def _lift(lift: tuple[LevelLift, ...]) -> ReportTable:
    return ReportTable(
        title="What a level tells",
        note=(
            "AUC of the number of matches at a level or below, against the label, all rows: 0.5 = nothing. Level 0 is "
            "the candidate itself and its products, 1 its category, 2 that one's parent."
        ),
        columns=("level", "AUC"),
        rows=tuple((str(each.level), _number(each.auc)) for each in lift),
    )


def _added(lift: tuple[LevelLift, ...]) -> ReportTable:
    names = [str(a) if a == b else f"{a} or more" if b is None else f"{a} to {b}" for a, b in FOUND_BELOW]
    rows = [
        (
            f"{each.level - 1} to {each.level}",
            *(f"{_number(a.auc)} ({a.num_positives:,} of {a.num_rows:,})" for a in each.added),
        )
        for each in lift
        if each.level
    ]
    return ReportTable(
        title="What climbing adds, by what was found below",
        note=(
            "AUC of the number of further matches, among rows with so many matches so far; in brackets positive rows "
            "of all. Where it is 0.5 or less, what climbing brings does not speak for a candidate."
        ),
        columns=("climb", *(f"{name} below" for name in names)),
        rows=tuple(rows),
    )


def _ndcg(what: str, quality: Quality) -> ReportTable:
    rows = [(name, *_estimate(each)) for name, each in (*quality.ndcg.items(), *quality.differences.items())]
    return ReportTable(
        title=f"Search NDCG@20, {what}",
        note=(
            f"{quality.num_rows:,} rows of {quality.num_users:,} users; mean over users, 95 % interval of 1,000 "
            "bootstrap resamples of users, and the mean on each of the samples of users. The last three are paired."
        ),
        columns=("ranking", "NDCG@20", "95 % interval", "samples of users"),
        rows=tuple(rows),
    )


def _shares(what: str, quality: Quality) -> ReportTable:
    rows = [(name, *(_percent(share) for share in quality.shares[name])) for name in ("best", *RANKINGS)]
    return ReportTable(
        title=f"Share of the history's worth in the first behaviors, {what}",
        note="Mean over users; best = the most worthy first. Hard search lacks what is related at no level.",
        columns=("ranking", *(f"first {length}" for length in LENGTHS)),
        rows=tuple(rows),
    )


def _policies(what: str, quality: Quality) -> ReportTable:
    rows = [
        (
            each.name,
            f"{each.length:.1f}",
            *(_percent(share) for share in (each.share, each.random, each.best, each.skill)),
        )
        for each in quality.policies
    ]
    return ReportTable(
        title=f"What a policy's lists hold, {what}",
        note=(
            "Mean length, share of the history's worth, the share of as many behaviors at random and of the most "
            "worthy ones, and where between these two it stands: 0 % = as good as chance."
        ),
        columns=("policy", "length", "share of the worth", "random", "best", "from random to best"),
        rows=tuple(rows),
    )


def _estimate(estimate: Estimate) -> tuple[str, str, str]:
    samples = ", ".join(f"{mean:.3f}" for mean in estimate.seeds)
    return f"{estimate.mean:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}", samples


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
