"""Command line of the evidence table: `python -m scripts.evidence --resume --out docs/evidence/DATE-evidence.md`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from threadpoolctl import threadpool_limits

from scripts.bench.report import note
from scripts.evidence.job import plan
from scripts.evidence.report import content_of, printed, write_report
from scripts.evidence.results import RunFolder
from scripts.evidence.sets import every_set
from scripts.servers import CHECKOUT
from store.command import command_line, output_file, output_folder, run
from store.errors import InputError
from store.terminal import check_matplotlib, say, steps

if TYPE_CHECKING:
    from scripts.evidence.job import Plan
    from scripts.evidence.results import Run
    from scripts.evidence.sets import EvidenceSet


def main(
    resume: Annotated[bool, typer.Option("--resume", help="Keep the runs that are finished already.")] = False,
    sets: Annotated[str, typer.Option(help="Names of sets, joined by commas; empty = all.")] = "",
    presets: Annotated[str, typer.Option(help="Names of presets; empty = those that each set asks.")] = "",
    seeds: Annotated[str, typer.Option(help="Numbers; empty = those of each set.")] = "",
    minutes: Annotated[float, typer.Option(help="Begin no run after so many.")] = float("inf"),
    report_only: Annotated[bool, typer.Option("--report-only", help="Make no run.")] = False,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Report the newest run of each kind even if code or data have changed.")
    ] = False,
    work: Annotated[Path, output_folder("--work", "Where data, examples and finished runs are kept.")] = (
        CHECKOUT / "work" / "evidence"
    ),
    out: Annotated[
        Path | None, output_file("--out", "Markdown file of the report; JSON and plots are written beside it.")
    ] = None,
) -> None:
    """Makes the runs of the evidence table that are not finished yet, one by one, and reports all that are.

    It may be killed at any time: run again with --resume, it goes on with the run that it was in.
    """
    if out is not None:
        check_matplotlib()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        planned = plan(_chosen(sets), _names(presets), [_number(seed) for seed in _names(seeds)], work, note)
        for what in planned.left_out:
            note(f"left out: {what}")
        folder, until_s = RunFolder(path=work / "runs"), time.monotonic() + 60 * minutes
        runs, failed = _runs(planned, folder, resume, -1.0 if report_only else until_s)
    left = [*planned.left_out, *failed]
    if any_code:
        current = {one.name for one in runs}
        others = [one for one in folder.others([job.name for job in planned.jobs]) if one.name not in current]
        runs += others
        if others:
            left.append(f"{len(others)} of the runs were made by earlier code, configuration or data")
    if (unfinished := len(planned.jobs) - len(runs)) > 0:
        left.append(f"{unfinished} of {len(planned.jobs)} runs are not finished")
    content = content_of(runs, planned, left)
    say(*printed(content))
    if out is not None:
        write_report(content, out)
        say(f"report: {out}")


def _runs(planned: Plan, folder: RunFolder, resume: bool, until_s: float) -> tuple[list[Run], list[str]]:
    """Makes the runs that are not there before a time; gives all that are there, and what failed, in words."""
    runs: list[Run] = []
    failed: list[str] = []
    for number, job in enumerate(planned.jobs, start=1):
        found = folder.find(job.name, job.key) if resume or until_s < 0 else None
        if found is None and time.monotonic() < until_s:
            what = f"{number} of {len(planned.jobs)}: {job.set}, {job.preset}, seed {job.seed}"
            note(what)
            try:
                with steps() as progress:
                    found = job.make(progress.counted)
            except Exception as error:
                # One preset that fails does not take the night from the others.
                failed.append(f"{job.set}, {job.preset}, seed {job.seed}: {type(error).__name__}: {error}")
                note(f"failed: {failed[-1]}")
                continue
            folder.keep(found)
            note(f"{what}: {_line(found)}")
        if found is not None:
            runs.append(found)
    return runs, failed


def _line(run: Run) -> str:
    numbers = ", ".join(f"{name} {one['auc']:.4f}/{one['gauc']:.4f}" for name, one in run.metrics.items())
    return f"{numbers}; trained {run.cost['train_s']:.0f} s"


def _chosen(names: str) -> list[EvidenceSet]:
    known = every_set()
    for name in _names(names):
        if name not in known:
            raise InputError(f"--sets: {name!r} is none of {', '.join(known)}")
    return [known[name] for name in _names(names) or known]


def _names(joined: str) -> list[str]:
    return [name.strip() for name in joined.split(",") if name.strip()]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"--seeds: {text!r} is no number")
    return int(text)


if __name__ == "__main__":
    run(command_line(None, main))
