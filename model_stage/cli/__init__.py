"""`lookback-model`: train, evaluate, serve and ask. A composition root: it joins the two stages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model_stage.cli import bundle as cli_bundle
from model_stage.cli import targets as cli_targets
from model_stage.cli.explain import explain_command
from model_stage.cli.request import AsOfOption, FieldsOption, UserOption, naming, request_of
from model_stage.cli.search import open_searcher
from model_stage.errors import ConfigError, InvalidRequestError, ModelError
from model_stage.json_file import write_json
from model_stage.progress import progress_bars
from search_stage.errors import SearchError
from serving import ServeOptions
from serving.command import serve_options
from serving.deadline import Deadline
from store.errors import InputError, StoreError
from store.screen import screen

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Stage two: target-decoupled attention ranking.")
app.add_typer(cli_bundle.app, name="bundle")
app.add_typer(cli_targets.app, name="targets")
app.command("explain")(explain_command)
console = screen()

DataOption = Annotated[Path, typer.Option("--data", help="Dataset directory of the input contract, with splits.json.")]
StoreOption = Annotated[Path, typer.Option("--store", help="Root of the behavior store.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")]
SearchConfigOption = Annotated[Path | None, typer.Option("--search-config", help="search.yaml; default: packaged.")]
BundleOption = Annotated[Path, typer.Option("--bundle", help="Root of model bundles.")]
SearchOption = Annotated[str, typer.Option("--search", help="host:port of the search service.")]


@app.command()
def train(
    data: DataOption,
    store: StoreOption,
    config: Annotated[Path, typer.Option("--config", help="Directory of schema, targets and train.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="Root to publish the bundle under.")],
    index: IndexOption = None,
    search_config: SearchConfigOption = None,
    attention_from: Annotated[
        Path | None, typer.Option("--attention-from", help="Bundle root whose attention table is kept, fixed.")
    ] = None,
) -> None:
    """Train on point-in-time retrieved behaviors and publish a bundle."""
    from model_stage.training.pipeline import Recipe, train_bundle

    recipe = Recipe.load(config)
    with (
        open_searcher(store, index, search_config) as (opened, retriever),
        opened.snapshot() as snapshot,
        progress_bars() as on_progress,
    ):
        trained = train_bundle(
            recipe, data, snapshot, retriever, out, attention_from=attention_from, on_progress=on_progress
        )
    _print_metrics({"validation": trained.metrics["validation"]})
    console.print(f"published bundle {trained.name}")


@app.command()
def evaluate(
    data: DataOption,
    store: StoreOption,
    bundle: BundleOption,
    index: IndexOption = None,
    search_config: SearchConfigOption = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
) -> None:
    """Measure a bundle on a split, retrieving as of each request's own time."""
    from model_stage.bundle import load_bundle
    from model_stage.config.schema import load_yaml
    from model_stage.training.impressions import load_impressions
    from model_stage.training.pipeline import SPLITS, Splits, retrieve_examples
    from model_stage.training.scoring import evaluate_examples

    if split not in SPLITS:
        raise typer.BadParameter(f"{split!r} is none of {', '.join(SPLITS)}", param_hint="--split")
    model = load_bundle(bundle)
    names = model.targets.names
    part = load_yaml(data / "splits.json", Splits).select(load_impressions(data, model.schema, names), split)
    with (
        open_searcher(store, index, search_config, model.attention_model) as (_, retriever),
        progress_bars() as on_progress,
    ):
        examples = retrieve_examples(
            part, model.schema, retriever, model.encoder, lambda d, t: on_progress(f"retrieve {split}", d, t)
        )
    metrics = evaluate_examples(model, examples, part)
    _print_metrics({split: metrics})
    write_json(json_file, {"bundle": model.name, "split": split, "metrics": metrics})


@app.command()
def presets() -> None:
    """List the networks that `network.preset` in train.yaml may name."""
    from model_stage.networks.show import presets_table

    console.print(presets_table())


@app.command()
@serve_options(port=50052)
def serve(bundle: BundleOption, search: SearchOption, options: ServeOptions) -> None:
    """Serve ranking over gRPC until SIGTERM."""
    from model_stage.serving.server import serve as run_server

    run_server(bundle, search, options)


@app.command()
def rank(
    user: UserOption,
    candidate: Annotated[list[str], typer.Option(help="Ad id, as it stands in the input; may be repeated.")],
    server: Annotated[str, typer.Option(help="host:port of the ranking service.")] = "127.0.0.1:50052",
    as_of: AsOfOption = None,
    fields: FieldsOption = None,
    deadline_s: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 1.0,
) -> None:
    """Ask a running ranking service for probabilities, and for what stands behind the best candidate."""
    from model_stage.evaluation.tables import explanation_table, ranking_table
    from model_stage.serving.rank_client import RankClient

    request = request_of(user, candidate, as_of, fields)
    with RankClient(server) as client, naming(fields):
        result = client.rank(request, Deadline.after(deadline_s))
        console.print(ranking_table(result, candidate))
        if not result.degraded:
            best = int(result.probability[:, 0].argmax())
            console.print(explanation_table(client.explain(request, best, Deadline.after(deadline_s))))


def _print_metrics(metrics: dict[str, dict[str, dict[str, float]]]) -> None:
    """Log loss and calibration error: as answered, and in brackets as they were before the calibration."""
    table = Table("split", "target", "AUC", "GAUC", "log loss", "calibration error", "positives", "impressions")
    for split, targets in metrics.items():
        for target, values in targets.items():
            table.add_row(
                split,
                target,
                *(f"{values[key]:.4f}" for key in ("auc", "gauc")),
                *(f"{values[key]:.5f} ({values[f'{key}_uncalibrated']:.5f})" for key in ("logloss", "ece")),
                f"{values['positives']:,.0f}",
                f"{values['impressions']:,.0f}",
            )
    console.print(table)


def main() -> None:
    """Runs the command line: a known error is one line; exit code 2 = the call is wrong, 1 = what it works on is."""
    try:
        app()
    except (ModelError, SearchError, StoreError) as exc:
        Console(stderr=True).print(f"error: {exc}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(exc, InvalidRequestError | ConfigError | InputError) else 1)
