"""The offline job: `python -m scripts.pipeline --data DATASET --config CONFIG --work DIR`.

Ingests a dataset directory, learns the attention table or makes it of content vectors, builds the index, trains,
publishes, and measures on the test split. Why it trains twice where the table is learned:
docs/adr/0004-attention-table-in-two-passes.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from model_stage.bundle import load_bundle
from model_stage.cli.search import example_folder
from model_stage.cli.tables import metrics_table
from model_stage.config.schema import load_yaml
from model_stage.networks.preset import load_preset
from model_stage.training.impressions import Splits
from model_stage.training.pipeline import Recipe, publish_attention, train_bundle
from model_stage.training.scoring import Scored, score_split
from scripts.item_vectors import item_vectors
from scripts.servers import Roots
from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from store import BehaviorStore, ingest
from store.command import JsonOption, command_line, config_folder, output_folder, run
from store.dataset.item_vectors import ITEM_VECTORS
from store.dataset.readers import find_files
from store.terminal import show_report, steps

OnProgress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
CONFIGS = Path(__file__).resolve().parent / "configs"
ATTENTION_EPOCHS = 2
"""Epochs of the first pass, which only has to teach the attention table."""
ATTENTION = "attention"
"""Folder of its bundles, where store, index and bundles are published."""


def main(
    data: Annotated[Path, typer.Option(help="Dataset directory of the input contract, with splits.json.")],
    config: Annotated[Path, config_folder("Folder with schema, targets, train and search.yaml.")],
    work: Annotated[Path, output_folder("--work", "Folder to publish store, index and bundles under.")],
    json_file: JsonOption = None,
) -> None:
    """Makes everything that is served of a dataset, and measures it on the test split.

    Another run publishes new generations beside those that are there.
    """
    with steps() as progress:
        scored = score_test(data, build(data, config, work, progress.counted), progress.counted)
    content = {"bundle": scored.bundle, "split": "test", "metrics": scored.metrics}
    published = f"published store, index and bundle {scored.bundle} under {work}"
    show_report([metrics_table("test", scored.metrics), published], content, json_file)


def build(dataset: Path, config: Path, work: Path, on_progress: OnProgress, seed: int | None = None) -> Roots:
    """Runs the whole job once, under `work`; gives where everything was published.

    Args:
        dataset: Dataset directory with impressions and splits.json.
        config: Directory of schema, targets, train and search.yaml.
        work: Where to publish store, index and bundles, and to keep retrieved examples.
        on_progress: Called with (what, done, total).
        seed: Of both trainings; None = the one in train.yaml.
    """
    roots, recipe = publish_search(dataset, config, work, on_progress, seed), _recipe(config, seed)
    with BehaviorStore.open(roots.store) as store, store.snapshot() as snapshot:
        searcher = Searcher(store, IndexGeneration.open(roots.index), SearchConfig.load(config))
        train_bundle(
            recipe,
            dataset,
            snapshot,
            searcher,
            roots.bundle,
            attention_from=work / ATTENTION,
            examples=example_folder(roots.examples, searcher, roots.index),
            on_progress=_named("second pass", on_progress),
        )
    return roots


def publish_search(dataset: Path, config: Path, work: Path, on_progress: OnProgress, seed: int | None = None) -> Roots:
    """Runs the job up to what search serves: the store, and the index of a first, short training or content vectors.

    Where the recipe's attention table is content vectors and the dataset has none, they are made of the store. The
    arguments are those of `build`. Gives where `build` publishes; it has no bundles yet.
    """
    roots = Roots(
        store=work / "store",
        index=work / "index",
        bundle=work / "bundles",
        config=config,
        examples=work / "examples",
    )
    recipe, search, attention = _recipe(config, seed), SearchConfig.load(config), work / ATTENTION
    # Anew: the folder may hold the store of another dataset.
    ingest(
        dataset,
        roots.store,
        replace=True,
        progress=lambda what, done, rows=0: on_progress(what, round(100 * done), 100),
    )
    with BehaviorStore.open(roots.store) as store, store.snapshot() as snapshot:
        if recipe.model.attention == "content":
            on_progress("item vectors", 0, 1)
            until_ms = load_yaml(dataset / "splits.json", Splits).validation_from_ms
            found = find_files(dataset, ITEM_VECTORS)
            made = None if found else item_vectors(snapshot, until_ms, recipe.schema.attention_dim)
            publish_attention(recipe, dataset, snapshot, attention, made)
        else:
            short = teaching_attention(_with_training(recipe, max_epochs=ATTENTION_EPOCHS))
            hard_and_recent = Searcher(store, None, search)
            train_bundle(
                short,
                dataset,
                snapshot,
                hard_and_recent,
                attention,
                examples=example_folder(roots.examples, hard_and_recent, None),
                on_progress=_named("first pass", on_progress),
            )
        build_index(attention, store, roots.index)
    return roots


def score_test(dataset: Path, roots: Roots, on_progress: OnProgress) -> Scored:
    """Scores the test split with the published bundle, retrieving as of each request's own time."""
    with BehaviorStore.open(roots.store) as store, store.snapshot() as snapshot:
        searcher = Searcher(store, IndexGeneration.open(roots.index), SearchConfig.load(roots.config))
        return score_split(
            load_bundle(roots.bundle),
            dataset,
            "test",
            snapshot,
            searcher,
            examples=example_folder(roots.examples, searcher, roots.index),
            on_request=partial(on_progress, "retrieve test"),
        )


def _recipe(config: Path, seed: int | None) -> Recipe:
    recipe = Recipe.load(config)
    return recipe if seed is None else _with_training(recipe, seed=seed)


def _with_training(recipe: Recipe, **changes: int) -> Recipe:
    train = recipe.model.train.model_copy(update=changes)
    return replace(recipe, model=recipe.model.model_copy(update={"train": train}))


def teaching_attention(recipe: Recipe) -> Recipe:
    """Gives the recipe with a preset whose training teaches the attention table: its own, or `tin`."""
    network = recipe.model.network
    if network.preset.reads_attention:
        return recipe
    network = network.model_copy(update={"preset": load_preset("tin")})
    return replace(recipe, model=recipe.model.model_copy(update={"network": network}))


def _named(name: str, on_progress: OnProgress) -> OnProgress:
    return lambda what, done, total: on_progress(f"{name}: {what}", done, total)


if __name__ == "__main__":
    run(command_line(None, main))
