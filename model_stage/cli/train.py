"""Commands that make a model and measure it: `train`, `evaluate`, `presets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_stage.cli.search import example_folder, open_searcher
from model_stage.cli.tables import coverage_table, metrics_table, presets_table
from store.command import (
    BundleOption,
    ConfigOption,
    IndexOption,
    JsonOption,
    StoreOption,
    config_folder,
    output_file,
    output_folder,
)
from store.terminal import say, show_report, steps, warn

ExamplesOption = Annotated[
    Path | None,
    output_folder("--examples", "Folder that keeps retrieved examples for the next run; default: they are not kept."),
]


def _check_split(split: str) -> str:
    from model_stage.training.impressions import SPLITS

    if split not in SPLITS:
        raise typer.BadParameter(f"{split!r} is none of {', '.join(SPLITS)}")
    return split


SplitOption = Annotated[str, typer.Option("--split", help="train, validation or test.", callback=_check_split)]
DataOption = Annotated[Path, typer.Option("--data", help="Dataset directory of the input contract, with splits.json.")]


def train(
    data: DataOption,
    store: StoreOption,
    config: Annotated[Path, config_folder("Folder with schema, targets, train and search.yaml.")],
    out: Annotated[Path, output_folder("--out", "Root to publish the bundle under.")],
    index: IndexOption = None,
    attention_from: Annotated[
        Path | None, typer.Option("--attention-from", help="Bundle root whose attention table is kept, fixed.")
    ] = None,
    examples: ExamplesOption = None,
    attention_only: Annotated[
        bool, typer.Option("--attention-only", help="Publish the content vectors alone, for an index; train nothing.")
    ] = False,
) -> None:
    """Train on point-in-time retrieved behaviors and publish a bundle."""
    from model_stage.training.pipeline import Recipe, publish_attention, train_bundle
    from store.behavior_store import BehaviorStore

    recipe = Recipe.load(config)
    if attention_only:
        with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
            name = publish_attention(recipe, data, snapshot, out)
        say(f"published bundle {name}: its attention table alone, nothing is trained")
        return
    with (
        open_searcher(store, index, config) as (opened, retriever),
        opened.snapshot() as snapshot,
        steps() as progress,
    ):
        trained = train_bundle(
            recipe,
            data,
            snapshot,
            retriever,
            out,
            attention_from=attention_from,
            examples=example_folder(examples, retriever, index),
            on_progress=progress.counted,
        )
    looked = trained.metrics["data"]
    say(
        metrics_table("validation", trained.metrics["validation"]),
        coverage_table(looked["field_coverage"]),
        f"{looked['requests_with_history']:.1%} of training requests have a history",
        f"published bundle {trained.name}",
    )


def evaluate(
    data: DataOption,
    store: StoreOption,
    bundle: BundleOption,
    index: IndexOption = None,
    config: ConfigOption = None,
    split: SplitOption = "test",
    examples: ExamplesOption = None,
    scores: Annotated[
        Path | None, output_file("--scores", "Parquet file to write the probability of every impression to.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure a bundle on a split, retrieving as of each request's own time."""
    from model_stage.bundle import load_bundle
    from model_stage.ranking.trained_with import search_differences
    from model_stage.training.scores_file import write_scores
    from model_stage.training.scoring import score_split

    model = load_bundle(bundle)
    with (
        open_searcher(store, index, config, model.attention_model) as (opened, retriever),
        opened.snapshot() as snapshot,
        steps() as progress,
    ):
        scored = score_split(
            model,
            data,
            split,
            snapshot,
            retriever,
            examples=example_folder(examples, retriever, index),
            on_request=lambda done, total: progress.counted(f"retrieve {split}", done, total),
        )
        differences = search_differences(model.provenance.search, retriever.config.configuration)
    for difference in differences:
        warn(f"warning: search is not configured as where bundle {model.name} was trained: {difference}")
    if scores is not None:
        write_scores(scores, scored)
    content = {
        "bundle": scored.bundle,
        "split": split,
        "requests_with_history": scored.requests_with_history,
        "metrics": scored.metrics,
    }
    history = f"{scored.requests_with_history:.1%} of requests have a history"
    show_report([metrics_table(split, scored.metrics), history], content, json_file)


def presets() -> None:
    """List the networks that `network.preset` in train.yaml may name."""
    say(presets_table())
