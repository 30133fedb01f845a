"""The whole of lookback on one machine: `python -m scripts.demo` (`make demo`).

Data in, store, index and bundle out; both services started, one request ranked over gRPC, and the network's numbers
beside the baselines'. Complete Journey where its files are, generated data otherwise; it says which.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from model_stage.bundle import load_bundle
from model_stage.cli.tables import explanation_table, ranking_table
from model_stage.serving.rank_client import RankClient
from model_stage.training.impressions import requests_of
from model_stage.training.pipeline import Recipe
from scripts.datasets.complete_journey import convert as complete_journey
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
    from collections.abc import Callable, Iterator, Sequence

    from model_stage.types import RankRequest

REAL = CHECKOUT.parent / "shared" / "data" / "complete_journey"
CALLS = 50
"""Timed calls of the demo's request, after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The dataset the demo runs on."""

    name: str
    directory: Path
    ceiling: dict[str, float]
    """What the true probabilities reach, where they are known."""


def main(
    data: Annotated[
        str, typer.Option(help="auto, complete_journey or generated; auto = complete_journey where its files are.")
    ] = "auto",
    source: Annotated[Path, typer.Option(help="Folder of the original Complete Journey files.")] = REAL,
    work: Annotated[Path, typer.Option(help="Where everything is written.")] = CHECKOUT / "work" / "demo",
) -> None:
    """Builds everything from raw files, serves it, ranks once, prints what came out."""
    started_s = time.monotonic()
    if data not in ("auto", "complete_journey", "generated"):
        raise InputError(f"--data: {data!r} is none of auto, complete_journey, generated")
    chosen = prepare("complete_journey" if data != "generated" and source.is_dir() else data, source, work)
    work = work / chosen.name
    with fitting_baselines(chosen, work) as finished_baselines:
        with steps() as progress:
            roots = build(chosen.directory, CONFIGS / chosen.name, work, progress.counted)
            scored = score_test(chosen.directory, roots, progress.counted)
        with console().status("waiting for the baselines"):
            baselines = finished_baselines()
    with console().status("starting the services"), running(roots, work / "logs") as addresses:
        call(addresses.ranking, chosen, roots, scored)
    say(quality_table(chosen, scored, baselines))
    say(f"done in {time.monotonic() - started_s:.0f} s; everything is under {work}")


def prepare(name: str, source: Path, work: Path) -> Data:
    """Writes the dataset directory and says what the data are."""
    if name == "complete_journey":
        say(f"data: Complete Journey, real purchases and coupon campaigns, from {source.name}")
        directory = work / name / "data"
        print_counts(complete_journey.TITLE, complete_journey.convert(source, directory))
        return Data(name=name, directory=directory, ceiling={})
    say("data: generated, with known true probabilities; no claim about real users follows from it")
    directory = work / "generated" / "data"
    with console().status("generating"):
        report = generate(Settings(), directory)
    print_report(report)
    return Data(name="generated", directory=directory, ceiling=report)


@contextmanager
def fitting_baselines(data: Data, work: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Fits the baselines in a process of their own; gives a function that waits for their numbers."""
    numbers, log = work / "baselines.json", work / "baselines.log"
    targets = ",".join(Recipe.load(CONFIGS / data.name).targets.names)
    command = [sys.executable, "-m", "scripts.baselines", "--data", str(data.directory), "--targets", targets]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--seeds", "1", "--json", str(numbers)], cwd=CHECKOUT, stdout=stream, stderr=stream
        )

    def finished() -> list[dict[str, Any]]:
        if process.wait() != 0:
            raise RuntimeError(f"{log}: the baselines failed:\n{log.read_text()[-2000:]}")
        results: list[dict[str, Any]] = json.loads(numbers.read_text())
        return results

    try:
        yield finished
    finally:
        process.kill()
        process.wait()


def call(address: str, data: Data, roots: Roots, scored: Scored) -> None:
    """Ranks the candidates of one test request over gRPC and prints the answer, its reasons, versions and latency."""
    request = example_request(roots, scored)
    user, names = names_of(roots, request)
    with RankClient(address) as client:
        result = client.rank(request, Deadline.after(10.0))
        took_ms = []
        for _ in range(CALLS):
            start_s = time.perf_counter()
            client.rank(request, Deadline.after(1.0))
            took_ms.append((time.perf_counter() - start_s) * 1000)
        best = int(result.probability[:, 0].argmax())
        explained = client.explain(request, best, Deadline.after(10.0))
    say(f"user {user}, as of {np.datetime64(request.as_of_ms, 'ms')}Z, data: {data.name}")
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


def quality_table(data: Data, scored: Scored, baselines: Sequence[dict[str, Any]]) -> Table:
    """Gives AUC and GAUC of the network, the baselines and, where it is known, the ceiling, on the test split."""
    table = Table(title=f"test split, {data.name}, one seed each", title_justify="left")
    for column in ("target", "model", "AUC", "GAUC", "log loss"):
        table.add_column(column, justify="left" if column in ("target", "model") else "right")
    for target in scored.targets:
        for result in baselines:
            if result["target"] == target:
                loss = f"{result['logloss']:.5f}" if result["logloss"] is not None else ""
                table.add_row(target, result["baseline"], f"{result['auc']:.4f}", f"{result['gauc']:.4f}", loss)
        ours = scored.metrics[target]
        table.add_row(target, "network", f"{ours['auc']:.4f}", f"{ours['gauc']:.4f}", f"{ours['logloss']:.5f}")
        if data.ceiling:
            ceiling = (data.ceiling[f"{target}_{metric}_ceiling"] for metric in ("auc", "gauc"))
            table.add_row(target, "ceiling (true probabilities)", *(f"{value:.4f}" for value in ceiling), "")
        table.add_section()
    return table


if __name__ == "__main__":
    run(command_line(None, main))
