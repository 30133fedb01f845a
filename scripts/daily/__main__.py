"""Command line of the daily job: `python -m scripts.daily --config FILE --json SUMMARY`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_stage.config.schema import load_yaml
from scripts.daily.config import DailyConfig
from scripts.daily.job import DailyJob, Summary
from store.command import JsonOption, command_line, run
from store.terminal import say, show_report, table

if TYPE_CHECKING:
    from store.terminal import Part

REFUSED = 3
"""Exit status of a run whose candidate did not pass; what was served is served still."""


def main(
    config: Annotated[Path, typer.Option(help="YAML file that says what to do: docs/operations/daily.md.")],
    json_file: JsonOption = None,
) -> None:
    """Takes in new behaviors, trains, and publishes what is as good as what is served.

    Safe to run twice, and to kill at any time: run it again. Exit status 0: published, or nothing new; 3: the candidate
    did not pass the gate; 1: an operator must act; 2: the command or its file is wrong.
    """
    job = load_yaml(config, DailyConfig)
    summary = DailyJob(job, on_step=lambda step: say(f"{step} ...") if json_file is None else None).run()
    show_report(_parts(summary), asdict(summary), json_file)
    if summary.outcome == "refused":
        raise typer.Exit(REFUSED)


def _parts(summary: Summary) -> list[Part]:
    facts: dict[str, str | int] = {
        "outcome": summary.outcome,
        "store": summary.store,
        "index": summary.index,
        "bundle": summary.bundle,
        **{f"{step}, seconds": f"{seconds:g}" for step, seconds in summary.seconds.items()},
    }
    parts: list[Part] = [facts]
    if summary.reasons:
        parts.append(table("why it was refused", rows=[(reason,) for reason in summary.reasons]))
    return parts


if __name__ == "__main__":
    run(command_line(None, main))
