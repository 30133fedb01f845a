"""The network against the baselines over paired seeds: `python -m scripts.compare --data DIR --config DIR --json FILE`.

Every seed runs the whole job: both trainings, the index, retrieval of the test split. What counts as a difference is
the paired interval: over seeds (Student's t) and, within each seed, over users (bootstrap).
"""

from __future__ import annotations

import multiprocessing
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table
from scipy import stats

from model_stage.evaluation.metrics import paired_bootstrap
from model_stage.training.pipeline import Recipe
from scripts.baselines.run import run_baselines
from scripts.pipeline import build, score_test
from store.command import JsonOption, command_line, run
from store.terminal import show_report, steps

if TYPE_CHECKING:
    from scripts.baselines.run import Result
    from scripts.pipeline import Scored

METRICS = ("auc", "gauc")


def main(
    data: Annotated[Path, typer.Option(help="Dataset directory with impressions and splits.json.")],
    config: Annotated[Path, typer.Option(help="Directory of schema, targets, train and search.yaml.")],
    work: Annotated[Path, typer.Option(help="Where stores, indexes and bundles are written.")] = Path("work/compare"),
    seeds: Annotated[int, typer.Option(help="Number of paired seeds.")] = 5,
    jobs: Annotated[int, typer.Option(help="Seeds that run side by side.")] = 2,
    json_file: JsonOption = None,
) -> None:
    """Trains and measures the network and the baselines with the same seeds on the same split."""
    with (
        steps() as progress,
        futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        waiting = [pool.submit(run_seed, data, config, work, seed) for seed in range(seeds)]
        fitting = pool.submit(run_baselines, data, Recipe.load(config).targets.names, range(seeds))
        everything: list[futures.Future[Any]] = [*waiting, fitting]
        for done, _ in enumerate(futures.as_completed(everything), start=1):
            progress.counted("seeds of the network, and the baselines", done, seeds + 1)
    scored, baselines = [one.result() for one in waiting], fitting.result()
    report = {"seeds": seeds, "targets": compare(scored, baselines)}
    show_report([table_of(report)], report, json_file)


def run_seed(data: Path, config: Path, work: Path, seed: int) -> Scored:
    """Runs the whole job with one seed and scores the test split."""
    roots = build(data, config, work / f"seed-{seed}", lambda what, done, total: None, seed=seed)
    return score_test(data, roots, lambda what, done, total: None)


def compare(scored: list[Scored], baselines: list[Result]) -> dict[str, Any]:
    """Gives, per target, every model's numbers per seed and the network's paired differences."""
    report: dict[str, Any] = {}
    for at, target in enumerate(scored[0].targets):
        network = [one.metrics[target] for one in scored]
        models: dict[str, Any] = {"network": network}
        differences: dict[str, Any] = {}
        for name in dict.fromkeys(result.baseline for result in baselines):
            results = [r for r in baselines if r.baseline == name and r.target == target]
            models[name] = [{metric: getattr(r, metric) for metric in METRICS} for r in results]
            if len(results) == len(scored):
                differences[name] = _differences(scored, at, results, network)
        report[target] = {"models": models, "network_less": differences}
    return report


def table_of(report: dict[str, Any]) -> Table:
    """Gives means and deviations over the seeds, and the network's difference with its interval over seeds."""
    table = Table("target", "model", "AUC", "GAUC", "network less it: AUC", "GAUC", title=f"{report['seeds']} seeds")
    for target, numbers in report["targets"].items():
        for model, seeds in numbers["models"].items():
            cells = [_mean([one[metric] for one in seeds]) for metric in METRICS]
            less = numbers["network_less"].get(model)
            if less is not None:
                cells += [f"{less[m]['mean']:+.4f} [{less[m]['low']:+.4f}, {less[m]['high']:+.4f}]" for m in METRICS]
            table.add_row(target, model, *cells)
        table.add_section()
    return table


def _differences(
    scored: list[Scored], at: int, results: list[Result], network: list[dict[str, float]]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in METRICS:
        values = np.array([ours[metric] - getattr(r, metric) for ours, r in zip(network, results, strict=True)])
        spread = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else np.nan
        users = []
        for one, result in zip(scored, results, strict=True):
            known = ~np.isnan(one.impressions.labels[:, at])
            interval = paired_bootstrap(
                one.impressions.labels[known, at],
                one.probability[known, at],
                result.scores,
                one.impressions.user[known],
                metric=metric,  # type: ignore[arg-type]
                seed=0,
                num_resamples=200,
            )
            users.append({"difference": interval.difference, "low": interval.low, "high": interval.high})
        found[metric] = {
            "mean": float(values.mean()),
            "low": float(values.mean() - spread),
            "high": float(values.mean() + spread),
            "over_users": users,
        }
    return found


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


if __name__ == "__main__":
    run(command_line(None, main))
