"""The report: what is printed, and a dated Markdown file with its JSON and plots beside it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from scripts.bench.machine import describe_machine
from scripts.bench.markdown import markdown_table, paragraph
from scripts.evidence import summary
from scripts.evidence.plots import draw_plots
from scripts.evidence.results import RESAMPLES
from scripts.evidence.sets import REFERENCES, TREES, every_set
from store.terminal import table, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.table import Table

    from scripts.evidence.job import Plan
    from scripts.evidence.results import Run

    Content = dict[str, Any]

COMMAND = "python -m scripts.evidence --resume"


def content_of(runs: Sequence[Run], planned: Plan, left: Sequence[str]) -> Content:
    """Gives the whole report as JSON knows it; `rows` has one row a run and target.

    Args:
        runs: All that are finished.
        planned: What they were to be.
        left: What is not there, in words.
    """
    known, sets = every_set(), {}
    for name, presets in summary.grouped(runs).items():
        sets[name] = {
            "means": summary.means_of(presets),
            "differences": summary.differences_of(presets),
            "slices": summary.slices_of_runs(presets),
            "costs": summary.costs_of(presets),
        }
        world = known[name].world
        if world is not None:
            shared = planned.shared[name]
            truth = json.loads((shared.data / "truth.json").read_text(encoding="utf-8"))
            sets[name]["world"] = summary.world_of(presets, world, truth)
            sets[name]["needle_recall"] = shared.needle_recall
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": COMMAND,
        "machine": describe_machine(planned.work),
        "left_out": list(left),
        "rows": summary.rows_of(runs),
        "sets": sets,
    }


def printed(content: Content) -> Iterator[Table | str]:
    """Gives what the terminal shows: a table of means for each set, and what is missing."""
    for name, parts in content["sets"].items():
        yield table("preset", "target", "seeds", "AUC", "GAUC", "log loss", rows=_mean_rows(parts["means"]), title=name)
        if "world" in parts:
            yield table(*_WORLD, rows=_world_rows(parts["world"]), title=f"{name}: the way to the ceiling")
            yield from (
                f"search finds {share:.1%} of the needles of {t}" for t, share in parts["needle_recall"].items()
            )
    yield from (f"to know: {what}" for what in content["left_out"])


def write_report(content: Content, out: Path) -> None:
    """Writes the Markdown file, and JSON and PNG files of the same name beside it.

    Raises:
        StoreIOError: One cannot be written.
    """
    plots = draw_plots(content, out)
    write_json(out.with_suffix(".json"), content)
    write_text(out, "\n\n".join([*_head(content), *_sections(content, plots)]) + "\n")


def _head(content: Content) -> Iterator[str]:
    machine = content["machine"]
    yield f"# The evidence table, {content['date']}"
    yield paragraph(
        f"`{content['command']}`; test split. All presets and seeds of a set share one retrieval and one attention",
        "table ([ADR 0024](../adr/0024-the-evidence-table.md)): seeds differ in what the training of the rest draws.",
        f"`{TREES}` are boosted trees on 66 numbers of counts, time and similarity. An",
        "interval over seeds is Student's t of the paired differences, one over users is 2.5 to 97.5 % of",
        f"{RESAMPLES} draws of whole users. Seconds are of processor time, of one thread.",
    )
    yield paragraph(
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB;",
        f"python {machine['python']}; load average at the end {machine['load_average']}.",
    )
    if content["left_out"]:
        yield "To know:"
        yield "\n".join(paragraph(f"- {what}", indent="  ") for what in content["left_out"])


def _sections(content: Content, plots: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, parts in content["sets"].items():
        yield f"## {name}"
        if "world" in parts:
            yield _world_text(parts["world"], parts["needle_recall"])
            yield markdown_table(_WORLD, _world_rows(parts["world"]))
        names = ("preset", "target", "seeds", "AUC", "GAUC", "log loss")
        yield markdown_table(names, _mean_rows(parts["means"]))
        yield from (f"![{name}]({file})" for file in plots[name])
        for reference in REFERENCES:
            rows = [row for row in parts["differences"] if row["reference"] == reference]
            if rows:
                yield f"### {name}: less `{reference}`"
                yield markdown_table(_DIFFERENCE, _difference_rows(rows))
        yield f"### {name}: what it costs"
        yield markdown_table(_COSTS, [_cost_row(row) for row in parts["costs"]])
        yield f"### {name}: slices, AUC"
        yield _slice_tables(parts["slices"])


def _mean_rows(means: Sequence[Content]) -> list[tuple[str, ...]]:
    return [
        (row["preset"], row["target"], str(len(row["seeds"])), *(_spread(row, m) for m in summary.MEASURED))
        for row in sorted(means, key=lambda row: (row["target"], -row["auc"]))
    ]


def _spread(row: Content, metric: str) -> str:
    digits = 5 if metric == "logloss" else 4
    spread = row[f"{metric}_deviation"]
    return f"{row[metric]:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


_DIFFERENCE = ("preset", "target", "seeds", "AUC", "over seeds", "over users", "GAUC", "over seeds", "over users")


def _difference_rows(rows: Sequence[Content]) -> list[tuple[str, ...]]:
    found = []
    for row in rows:
        if row["metric"] == "auc":
            gauc = next(o for o in rows if o["metric"] == "gauc" and all(o[k] == row[k] for k in ("preset", "target")))
            cells = [cell for one in (row, gauc) for cell in _difference_cells(one)]
            found.append((row["preset"], row["target"], str(len(row["seeds"])), *cells))
    return sorted(found, key=lambda cells: cells[1])


def _difference_cells(row: Content) -> tuple[str, str, str]:
    return f"{row['mean']:+.4f}", _interval(row["over_seeds"]), _interval(row["over_users"])


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


_COSTS = ("preset", "training, s", "scoring, µs a candidate", "parameters")


def _cost_row(row: Content) -> tuple[str, ...]:
    scoring, parameters = row.get("score_cpu_ms_per_candidate"), row.get("parameters")
    return (
        row["preset"],
        f"{row['train_cpu_s']:.1f}",
        "-" if scoring is None else f"{1000 * scoring:.1f}",
        "-" if parameters is None else f"{parameters:,.0f}",
    )


def _slice_tables(rows: Sequence[Content]) -> str:
    """Gives a table for each target: a row for each slice, a column for each preset."""
    tables = []
    presets = list(dict.fromkeys(row["preset"] for row in rows))
    for target in dict.fromkeys(row["target"] for row in rows):
        mine = [row for row in rows if row["target"] == target]
        cells = {(row["slice"], row["preset"]): row for row in mine}
        lines = []
        for name in dict.fromkeys(row["slice"] for row in mine):
            first = next(row for row in mine if row["slice"] == name)
            values = [cells[name, preset]["auc"] if (name, preset) in cells else None for preset in presets]
            texts = ["-" if value is None else f"{value:.4f}" for value in values]
            lines.append((name, f"{first['positives']:,.0f} of {first['impressions']:,.0f}", *texts))
        tables.append(markdown_table((target, "positives", *presets), lines))
    return "\n\n".join(tables)


_WORLD = ("target", "preset", "AUC", "ceiling without", "ceiling", "of the mechanism", "begins at", "way gone")


def _world_rows(rows: Sequence[Content]) -> list[tuple[str, ...]]:
    return [
        (
            row["target"],
            row["preset"] + (" (made for it)" if row["made_for"] else ""),
            f"{row['auc']:.4f}",
            f"{row['ceiling_without']:.4f}",
            f"{row['ceiling']:.4f}",
            f"{row['of_mechanism']:.0%}",
            row["without"],
            f"{row['closed']:.0%}",
        )
        for row in sorted(rows, key=lambda row: (row["target"], -row["auc"]))
    ]


def _world_text(rows: Sequence[Content], needle_recall: Mapping[str, float]) -> str:
    made_for = [f"{row['target']} {row['closed']:.0%}" for row in rows if row["made_for"]]
    trees = [f"{target} {share:.0%}" for target, share in summary.trees_share(rows).items()]
    return paragraph(
        f"The preset made for this world goes {', '.join(made_for) or '-'} of the way from the best preset without its",
        f"mechanism to the ceiling (aim: 90 %). Trees close {', '.join(trees) or '-'} of the distance between the",
        "ceilings (at most: 50 %).",
        *(
            f"Search finds {share:.1%} of the needles of {target} (at least: 95 %)."
            for target, share in needle_recall.items()
        ),
    )
