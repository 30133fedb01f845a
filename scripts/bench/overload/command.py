"""What servers do under too much load: `python -m scripts.bench overload --json FILE`; with `--work` the real ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.bench.markdown import formatted, markdown_table
from scripts.bench.overload.batching import measure_batching
from scripts.bench.overload.orders import compare_orders
from scripts.bench.overload.served import OVER, measure_served
from scripts.bench.report import ReportFile, finish, head, new_facts, note, target, targets_section, targets_table
from scripts.pipeline import CONFIGS
from scripts.servers import Roots
from store.command import JsonOption
from store.terminal import table

_ORDER_COLUMNS = {
    "order": "{row[order]}",
    "load": "{row[load]:g}",
    "goodput": "{row[goodput]:.2f}",
    "p50 of answers, ms": "{row[answered_p50_ms]:.0f}",
    "p99 of refusals, ms": "{row[refused_p99_ms]:.0f}",
    "worked for in vain": "{row[late]:.3f}",
}
_BATCH_COLUMNS = {
    "preset": "{row[preset]}",
    "candidates": "{row[candidates]}",
    "requests together": "{row[requests]}",
    "ms a request": "{row[ms_per_request]:.2f}",
    "over one alone": "{row[over_alone]:.2f}",
}
_SERVED_COLUMNS = {
    "service": "{row[service]}",
    "peak, a second": "{row[peak_per_s]:.0f}",
    "asked, a second": "{row[offered_per_s]:.0f}",
    "answered in time": "{row[goodput_per_s]:.0f}",
    "over the peak's rate": "{row[goodput_over_peak]:.2f}",
    "refused p99, ms": "{row[refused_p99_ms]:.0f}",
    "failed, a second": "{row[failed_per_s]:.1f}",
    "memory gained, MiB": "{row[memory_mib]:.1f}",
}
_ABOUT = (
    "Simulated: four places; goodput and waste are shares of the capacity. Services: search and ranking of the demo,",
    "100 candidates, the sender on the same cores; the rate of the peak and three times the peak are asked in turn.",
)
LOADS = (0.7, 1.0, 1.5, 3.0, 6.0)
LEAST_GOODPUT, MOST_REFUSAL_MS, MOST_RECOVERY_S, MOST_MEMORY_MIB = 0.8, 50.0, 5.0, 20.0


def overload(
    work: Annotated[
        Path | None, typer.Option(help="Folder with store, index and bundles: its services are put under load.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Folder with its search.yaml; default: by its name.")] = None,
    deadline_s: Annotated[float, typer.Option("--deadline-seconds", min=0.001, help="Of every request.")] = 0.1,
    seconds: Annotated[float, typer.Option(min=1, help="Of the overload, and of every simulation.")] = 20.0,
    processes: Annotated[int, typer.Option(min=1, help="Senders.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the simulated arrivals.")] = 1,
    json_file: JsonOption = None,
    report: ReportFile = None,
) -> None:
    """Simulates orders of waiting, times requests in batches, puts services under load; writes all numbers as JSON."""
    command = f"overload --json FILE --seconds {seconds:g} --seed {seed} --deadline-seconds {deadline_s:g}"
    command += f" --processes {processes}" + (f" --work {work}" if work else "")
    facts = new_facts(command, Path(tempfile.gettempdir()))
    note("orders of waiting, simulated")
    facts["orders"] = list(compare_orders(LOADS, seconds, seed))
    note("requests in batches")
    facts["batching"] = list(measure_batching())
    facts["served"], facts["targets"] = [], []
    if work is not None:
        roots = Roots(
            store=work / "store", index=work / "index", bundle=work / "bundles", config=config or CONFIGS / work.name
        )
        facts["served"] = list(measure_served(roots, work / "logs", deadline_s, seconds, processes))
        facts["targets"] = [each for row in facts["served"] for each in _targets(row)]
    tables = [
        (title, columns, formatted(columns, facts[name]))
        for title, name, columns in (
            ("Orders of waiting, simulated", "orders", _ORDER_COLUMNS),
            ("Requests scored together", "batching", _BATCH_COLUMNS),
            ("Services", "served", _SERVED_COLUMNS),
        )
    ]
    sections = [
        head("under too much load", facts, *_ABOUT),
        *(f"## {title}\n\n{markdown_table(columns, rows)}" for title, columns, rows in tables if rows),
    ]
    shown = [table(*columns, rows=rows) for _, columns, rows in tables if rows]
    if work is not None:
        sections.append(targets_section(facts["targets"]))
        shown.append(targets_table(facts["targets"]))
    finish(facts, sections, json_file, report, *shown)


def _targets(row: Any) -> list[dict[str, Any]]:  # noqa: ANN401 -- a row of JSON
    name, over = row["service"], f"at {OVER:g} times the peak"
    never = float("inf")
    recovered_s = never if row["recovered_s"] is None else row["recovered_s"]
    return [
        target(f"{name}: goodput {over} over the peak", row["goodput_over_peak"], ">=", LEAST_GOODPUT),
        target(f"{name}: p99 of refusals {over}, ms", row["refused_p99_ms"], "<=", MOST_REFUSAL_MS),
        target(f"{name}: seconds until well", recovered_s, "<=", MOST_RECOVERY_S),
        target(f"{name}: memory gained, MiB", row["memory_mib"], "<=", MOST_MEMORY_MIB),
    ]
