"""The frame of every benchmark: its options, what is known of the run, the files it writes and what it prints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scripts.bench.machine import describe_machine
from scripts.bench.markdown import markdown_table, paragraph
from store.command import output_file
from store.terminal import STDOUT, console, table, warn, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

ReportFile = Annotated[Path | None, output_file("--report", "Write a dated report here, as Markdown.")]
Target = dict[str, Any]
"""What was to be reached, and what was: `what`, `measured`, `bar` and `met`."""


def note(step: str) -> None:
    """Says on standard error, with the time, what begins."""
    warn(f"{time.strftime('%H:%M:%S')} {step}")


def new_facts(command: str, work: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- what JSON knows
    """Gives the date, the command and the machine, as they stand at the top of every JSON file.

    Args:
        command: Name and options of the benchmark.
        work: Where it works: the file system counts.
        more: What else to say of the run.
    """
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return {"date": date, "command": f"python -m scripts.bench {command}", "machine": describe_machine(work), **more}


def target(what: str, measured: float, sign: str, bar: float) -> Target:
    """Gives a target of at least (`>=`) or at most (`<=`, `<`) the bar, and whether it was met."""
    met = measured >= bar if sign == ">=" else measured <= bar
    return {"what": what, "measured": measured, "bar": f"{sign} {bar:,}", "met": met}


def finish(
    facts: Mapping[str, Any],
    sections: Iterable[str],
    json_file: Path | None,
    report_file: Path | None,
    *tables: Table,
) -> None:
    """Prints tables, and writes the numbers as JSON and the sections as a report where a file is given for them.

    With `-` for the JSON nothing else is printed.
    """
    if json_file != STDOUT:
        wide = console()
        wide.width = max(wide.width, _WIDTH)
        for each in tables:
            wide.print(each)
    if json_file is not None:
        write_json(json_file, facts)
    if report_file is not None:
        write_text(report_file, "\n\n".join(sections) + "\n")


def head(title: str, facts: Mapping[str, Any], *about: str, **versions: str) -> str:
    """Gives the head of a report: date, title, command, what was measured, machine.

    Args:
        title: Behind the date.
        facts: As `new_facts` gives them.
        about: Sentences on what was measured.
        versions: Of packages that `machine` does not name.
    """
    machine = facts["machine"]
    load = f"load average {machine.get('load_average_before', machine['load_average'])} before"
    if "load_average_before" in machine:
        load += f", {machine['load_average']} after"
    packages = ", ".join(f"{name} {version}" for name, version in {**machine["versions"], **versions}.items())
    return "\n\n".join(
        (
            f"# {facts['date']} {title}",
            paragraph(f"Command: `{facts['command']}`. All numbers are in the JSON file beside this one."),
            paragraph(*about),
            paragraph(
                f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB,",
                f"{machine['kernel']}, {machine['file_system']}; {load}. Python {machine['python']}, {packages}.",
            ),
        )
    )


def targets_section(targets: Sequence[Target]) -> str:
    """Gives the section of a report that says what was to be reached."""
    return "## Targets\n\n" + markdown_table(_TARGET_NAMES, [_target_cells(each, "**no**") for each in targets])


def targets_table(targets: Sequence[Target]) -> Table:
    """Gives what was to be reached, and what was, to print."""
    return table(*_TARGET_NAMES, rows=[_target_cells(each, "no") for each in targets])


_WIDTH = 200
"""Columns to print a table in, at least: those of search do not fit into less."""
_TARGET_NAMES = ("what", "measured", "to reach", "met")


def _target_cells(each: Target, no: str) -> tuple[str, ...]:
    measured = each["measured"]
    number = f"{measured:,.3g}" if measured < 100 else f"{measured:,.0f}"
    return each["what"], number, each["bar"], "yes" if each["met"] else no
