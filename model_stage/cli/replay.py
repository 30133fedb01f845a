"""The commands over a served log: `replay`, `warm-requests`, `join-labels`."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store.command import BundleOption, ConfigOption, IndexOption, JsonOption, StoreOption, output_file, output_folder
from store.terminal import bar, more_text, say, show_report, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model_stage.serving.served_log.replay import ReplayReport
    from search_stage.searcher import Searcher
    from store.behavior_store import BehaviorStore
    from store.terminal import Part

SHOWN = 20
"""Differences in the table; all of them are in the JSON."""


class Absent(StrEnum):
    """What a candidate's label is when nobody reported one."""

    ZERO = "zero"
    UNKNOWN = "unknown"


LogArgument = Annotated[Path, typer.Argument(help="Folder that `serve --served-log` writes, or one of its files.")]


def replay(
    log: LogArgument,
    bundle: BundleOption,
    store: StoreOption,
    index: IndexOption = None,
    config: ConfigOption = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes to share the files of the log.")] = 1,
    json: JsonOption = None,
) -> None:
    """Score a served log again, with the live events that were seen then, and report every difference.

    Exit status 1 if anything differs, or nothing could be asked again.
    """
    report = replay_log(log, bundle, store, index, config, processes)
    show_report(_tables(report), _as_json(report), json)
    sys.exit(0 if report.num_same and not report.differences else 1)


def replay_log(
    log: Path, bundle: Path, store: Path, index: Path | None, config: Path | None = None, processes: int = 1
) -> ReplayReport:
    """Asks every request of a served log again, in this process or in some.

    Args:
        log: Folder of the log, or one of its files.
        bundle: Root of the bundles that served; likewise `store` and `index`.
        store: See `bundle`.
        index: See `bundle`; None = the log was served without one.
        config: Folder with search.yaml, as the search server had it; None = the packaged one.
        processes: How many share the files; with one it is this process.

    Raises:
        InputError: There is no such log.
    """
    from model_stage.serving.served_log.reader import request_files
    from model_stage.serving.served_log.replay import ReplayReport

    files = request_files(log)
    one = partial(_replay_some, bundle=bundle, store=store, index=index, config=config)
    shares = [share for at in range(processes) if (share := files[at::processes])]
    if len(shares) == 1:
        return one(shares[0])
    report = ReplayReport()
    with ProcessPoolExecutor(len(shares), mp_context=get_context("spawn")) as pool, bar("replaying") as show:
        for done, part in enumerate(pool.map(one, shares), start=1):
            report.add(part)
            show(done / len(shares))
    return report


def warm_requests(
    log: LogArgument,
    to: Annotated[Path, output_file("--to", "File to write, for `serve --warm-requests` of both services.")],
    count: Annotated[int, typer.Option(min=1, help="Requests to take, spread over the log.")] = 200,
) -> None:
    """Pick requests of a served log that new generations have to answer before they serve."""
    from model_stage.serving.served_log.warm_requests import write_warm_requests

    written = write_warm_requests(log, to, count)
    say(f"{to}: {written} requests")


def join_labels(
    log: LogArgument,
    labels: Annotated[Path, typer.Option(help="Table of request_id, item and label_<target> columns.")],
    to: Annotated[Path, output_folder("--to", "Folder to write impressions with labels to.")],
    absent: Annotated[
        Absent, typer.Option(help="Label of candidates that the table does not name: zero or unknown.")
    ] = Absent.ZERO,
) -> None:
    """Join a served log with what became of its candidates, for training."""
    from model_stage.serving.served_log.labels import join_labels as join

    rows, known = join(log, labels, to, 0.0 if absent is Absent.ZERO else float("nan"))
    say(f"{to}: {rows:,} impressions, {known:,} of them named by {labels}")


def _replay_some(
    files: Sequence[Path], bundle: Path, store: Path, index: Path | None, config: Path | None
) -> ReplayReport:
    import torch

    from model_stage.serving.served_log.replay import replay as replay_files

    torch.set_num_threads(1)  # as the servers do: another order of sums would be another last bit
    return replay_files(files, bundle, partial(_open_search, store, index, config))


@contextmanager
def _open_search(
    root: Path, index_root: Path | None, config: Path | None, store_name: str, index_name: str
) -> Iterator[tuple[BehaviorStore, Searcher]]:
    from search_stage.config import SearchConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.searcher import Searcher
    from store.behavior_store import BehaviorStore
    from store.errors import InputError

    if index_name and index_root is None:
        raise InputError(f"--index: the log was served with index {index_name}, and there is no --index")
    with BehaviorStore.open(root, store_name) as opened:
        index = IndexGeneration.open(index_root, index_name) if index_name and index_root is not None else None
        yield opened, Searcher(opened, index, SearchConfig.load(config))


def _tables(report: ReplayReport) -> list[Part]:
    counts: dict[str, str | int] = {
        "asked again": report.num_replayed,
        "  with live events": report.num_live,
        "the same": report.num_same,
        "different": len(report.differences),
        "not to be asked again": sum(report.unreachable.values()),
    }
    parts: list[Part] = [counts]
    if report.unreachable:
        reasons = [(count, why) for why, count in report.unreachable.most_common()]
        parts.append(table("requests", "why", rows=reasons, title="not to be asked again", right=("requests",)))
    if report.differences:
        shown = report.differences[:SHOWN]
        rows = [(each.request_id, f"{each.largest:.3g}", ", ".join(each.what)) for each in shown]
        parts += [
            table("request", "largest difference of a probability", "what", rows=rows, title="different"),
            more_text(len(report.differences), len(shown)) or "",
        ]
    return parts


def _as_json(report: ReplayReport) -> dict[str, object]:
    return {
        "num_replayed": report.num_replayed,
        "num_live": report.num_live,
        "num_same": report.num_same,
        "num_different": len(report.differences),
        "num_unreachable": sum(report.unreachable.values()),
        "unreachable": dict(report.unreachable),
        "differences": [asdict(each) for each in report.differences],
    }
