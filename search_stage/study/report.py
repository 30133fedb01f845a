"""The report as Markdown."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from search_stage.study.approximate import LONG
from search_stage.study.tables import report_tables

if TYPE_CHECKING:
    from search_stage.study.study import RecallReport
    from search_stage.study.tables import ReportTable

_WIDTH = 120


def report_markdown(report: RecallReport, command: str, plot: str | None) -> str:
    """Gives the report as a Markdown document.

    Args:
        report: What was measured.
        command: The command line that measured it.
        plot: Name of the plot's file, beside the document; None = there is none.
    """
    parts = [f"# What search finds: {report.target}", *report_facts(report, command)]
    if plot is not None:
        parts.append(f"![Search quality]({plot})")
    parts += [_markdown(table) for table in report_tables(report)]
    return "\n\n".join(parts) + "\n"


def report_facts(report: RecallReport, command: str) -> list[str]:
    """Gives what the numbers stand on, as paragraphs."""
    truth, settings, config = report.truth, report.settings, report.config
    index = report.index_generation or "none: soft search is off, its scores are all 0"
    policy = config.hard.default
    return [
        _paragraph(f"Command: `{command}`."),
        _paragraph(
            report.origin,
            f"Searched: {report.num_users:,} users, drawn by seeds {settings.seed} and the next four with",
            f"{settings.num_users:,} users each. Store {report.store_generation}, index {index}.",
        ),
        _paragraph(
            f"Served: quota {policy.quota}, min_matches {policy.min_matches}, max_level {policy.max_level} in a domain",
            f"without a policy of its own ({len(config.hard.domains)} have one); soft {config.soft.top_k}, newest",
            f"{config.recent.top_k}.",
        ),
        _paragraph(_approximate(report)),
        _paragraph(
            "What a behavior is worth for a candidate: the mutual information of the category at its position with the",
            f"label, by the candidate's category, from {truth.num_rows:,} training rows ({truth.num_positives:,} are",
            f"positive). Categories of depth {truth.depth} ({truth.num_categories:,} of them), positions by powers of",
            "two,",
            f"{truth.num_cells:,} cells with enough counts, {truth.against:.0%} of which speak against the candidate.",
            f"{truth.judged:.0%} of the ranked behaviors stand in such a cell; NDCG leaves out the others.",
        ),
    ]


def _approximate(report: RecallReport) -> str:
    measured, soft = report.approximate, report.config.soft
    if measured is None or not measured.num_candidates:
        return "The approximate soft search was not measured: no searched user has a history long enough for it."
    used = "never used" if soft.approximate_from is None else f"used from {soft.approximate_from:,} vectors on"
    return (
        f"The approximate soft search ({used}), looking into one in {soft.probe_one_in} clusters, finds "
        f"{measured.recall:.3f} of the best {soft.top_k} of {measured.num_candidates:,} candidates of users with "
        f"{LONG:,} behaviors or more."
    )


def _markdown(table: ReportTable) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (table.columns, ("---",) * len(table.columns), *table.rows)]
    return "\n".join((f"## {table.title}", "", _paragraph(table.note), "", *lines))


def _paragraph(*sentences: str) -> str:
    return textwrap.fill(" ".join(sentences), _WIDTH, break_on_hyphens=False, break_long_words=False)
