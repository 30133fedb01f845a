"""From a dataset directory to a published bundle: impressions, point-in-time retrieval, training, report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from model_stage.bundle import Provenance, load_bundle, new_network, save_bundle
from model_stage.calibration import Calibration
from model_stage.config.schema import Schema, StrictModel, load_yaml
from model_stage.config.targets import Targets
from model_stage.config.train import TrainConfig
from model_stage.errors import ConfigError
from model_stage.networks import NetworkConfig
from model_stage.ranking.compatibility import NOTHING_ASKED
from model_stage.training.auxiliary import AuxiliaryModel
from model_stage.training.calibrate import CalibrationMethod, fit_calibration
from model_stage.training.content_vectors import load_content_vectors, set_content_vectors
from model_stage.training.data_check import check_data
from model_stage.training.example_folder import opened_folder
from model_stage.training.health import start_norms
from model_stage.training.impressions import Splits, load_impressions
from model_stage.training.kept_attention import kept_vocabularies
from model_stage.training.retrieval import ExampleSource
from model_stage.training.scoring import logits_by_row
from model_stage.training.served_type import fit_served_type
from model_stage.training.trainer import train
from model_stage.training.vocabularies import build_vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.encoding.vocabulary import Vocabularies
    from model_stage.networks import RankingNetwork
    from model_stage.training.example_folder import ExampleFolder
    from model_stage.training.examples import Examples
    from model_stage.types import Retriever
    from store.dataset.impressions import Impressions
    from store.dataset.item_vectors import ItemVectors
    from store.reading.snapshot import Snapshot
    from store.types import F32


class ModelConfig(StrictModel):
    """`train.yaml`: the network and how it is trained."""

    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    attention: Literal["learned", "content"] = "learned"
    """Where the attention table comes from. `learned`: from training. `content`: it is the vectors of items that the
    dataset folder has (`item_vectors.parquet`), and no training changes it (ADR 0030)."""
    calibration: CalibrationMethod = "platt"
    """How probabilities are fitted to the validation split afterwards. `platt` has two numbers per target, which a few
    dozen positives can carry, and keeps the order of candidates; `isotonic` takes any rising shape, wants thousands of
    positives, and makes candidates equal where its curve is level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train: the three files of a configuration directory."""

    schema: Schema
    targets: Targets
    model: ModelConfig

    @staticmethod
    def load(directory: Path) -> Recipe:
        """Reads `schema.yaml`, `targets.yaml` and `train.yaml`.

        Raises:
            ConfigError: One is absent or wrong; names file and key.
        """
        return Recipe(
            schema=load_yaml(directory / "schema.yaml", Schema),
            targets=load_yaml(directory / "targets.yaml", Targets),
            model=load_yaml(directory / "train.yaml", ModelConfig),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A published bundle and what was measured on the way."""

    name: str
    metrics: dict[str, Any]


def train_bundle(
    recipe: Recipe,
    dataset: Path,
    snapshot: Snapshot,
    retriever: Retriever,
    out: Path,
    *,
    attention_from: Path | None = None,
    examples: ExampleFolder | None = None,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Trained:
    """Trains after a recipe and publishes the bundle under `out`.

    Args:
        recipe: Schema, targets, network and training.
        dataset: Directory of the input contract with impressions and splits.json.
        snapshot: Store generation the retriever reads; gives vocabularies and taxonomy.
        retriever: What retrieves behaviors in training, evaluation and serving alike.
        out: Root of model bundles.
        attention_from: Bundle root whose vocabularies and attention table are taken over and kept fixed, so that the
            index built from its export stays true to the new bundle.
        examples: Where retrieved examples are kept for the next run; None = nowhere.
        on_progress: Called with (what, done, total).

    Raises:
        ConfigError: The schema does not fit the bundle whose attention table is kept, or the store's fields; or the
            data cannot teach it, see `data_check`.
    """
    training = _prepare(recipe, dataset, snapshot, attention_from)
    with opened_folder(examples, beside=out) as folder:
        source = ExampleSource(
            schema=recipe.schema,
            preset=recipe.model.network.preset,
            vocabularies=training.vocabularies,
            snapshot=snapshot,
            retriever=retriever,
            folder=folder,
        )
        fitted = _fit(training, _retrieve(training, source, on_progress), on_progress)
    configuration = retriever.search(NOTHING_ASKED).configuration
    name = _publish(training, snapshot, fitted, json.loads(configuration or "{}"), out)
    return Trained(name=name, metrics=fitted.metrics)


def publish_attention(
    recipe: Recipe, dataset: Path, snapshot: Snapshot, out: Path, content: ItemVectors | None = None
) -> str:
    """Publishes a bundle whose attention table is content vectors and whose network has not learned anything.

    An index is built from it, and `train_bundle` takes the table over by `attention_from`. Gives the bundle's name.

    Args:
        recipe: As in `train_bundle`, like the next three.
        dataset: See `recipe`.
        snapshot: See `recipe`.
        out: See `recipe`.
        content: The vectors, as wide as the schema says; None = those of the dataset.

    Raises:
        ConfigError: The recipe's attention table is learned.
    """
    if recipe.model.attention != "content":
        raise ConfigError(
            "train.yaml: attention: is `learned`: train a bundle for its table; only `content` is there before"
        )
    training = _prepare(recipe, dataset, snapshot, None, content)
    fitted = _Fitted(calibration=Calibration(), served_as=torch.float32, metrics={})
    return _publish(training, snapshot, fitted, {}, out)  # nothing was retrieved


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """What a training starts with."""

    recipe: Recipe
    parts: Mapping[str, Impressions]
    """Of the splits `train` and `validation`."""
    data: Mapping[str, Any]
    """What `metrics.json` says of them."""
    fixed: Bundle | None
    """The bundle whose vocabularies and attention table are kept."""
    vocabularies: Vocabularies
    network: RankingNetwork
    auxiliary: AuxiliaryModel | None
    start: Mapping[str, F32]
    """Norms of the rows of its tables, before any training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """What a training ends with, beside the weights."""

    calibration: Calibration
    served_as: torch.dtype
    metrics: dict[str, Any]


def _prepare(
    recipe: Recipe,
    dataset: Path,
    snapshot: Snapshot,
    attention_from: Path | None,
    content: ItemVectors | None = None,
) -> _Training:
    """Reads the impressions, and makes vocabularies, the network and the auxiliary loss.

    Arguments: `train_bundle`, `publish_attention`.
    """
    schema, targets, config = recipe.schema, recipe.targets, recipe.model
    splits = load_yaml(dataset / "splits.json", Splits)
    impressions = load_impressions(dataset, schema, targets.names)
    parts = {split: splits.select(impressions, split) for split in ("train", "validation")}
    data = check_data(schema, splits, impressions, parts, snapshot)
    fixed = load_bundle(attention_from) if attention_from is not None else None
    if fixed is not None:
        vocabularies = kept_vocabularies(fixed, schema, snapshot, parts["train"], splits.validation_from_ms)
    else:
        if config.attention == "content" and content is None:
            content = load_content_vectors(dataset, schema)
        vocabularies = build_vocabularies(
            schema, snapshot, parts["train"], splits.validation_from_ms, None if content is None else content.ids
        )
    network = new_network(schema, targets, config.network, vocabularies, config.train.seed)
    if content is not None:
        set_content_vectors(network.attention, vocabularies.tree, content)
    start = start_norms(network)
    auxiliary, options = None, config.network.preset.auxiliary
    if fixed is not None:
        network.attention.load_state_dict(fixed.network.attention.state_dict())
        network.attention.node.requires_grad_(False)
    elif options is not None and content is None:  # a fixed attention table would learn nothing from it
        auxiliary = AuxiliaryModel(schema, targets, config.network, options.weight, config.train.seed)
    return _Training(
        recipe=recipe,
        parts=parts,
        data=data,
        fixed=fixed,
        vocabularies=vocabularies,
        network=network,
        auxiliary=auxiliary,
        start=start,
    )


def _retrieve(
    training: _Training, source: ExampleSource, on_progress: Callable[[str, int, int], None]
) -> dict[str, Examples]:
    """Gives the examples of each split; those of `train` have whole histories where an auxiliary loss reads them."""
    return {
        split: source.examples(
            split,
            part,
            partial(on_progress, f"retrieve {split}"),
            with_histories=split == "train" and training.auxiliary is not None,
        )
        for split, part in training.parts.items()
    }


def _fit(
    training: _Training, examples: Mapping[str, Examples], on_progress: Callable[[str, int, int], None]
) -> _Fitted:
    """Trains the network in place; fits its calibration, and how it is to be served, on the validation split."""
    targets, config, validation = training.recipe.targets, training.recipe.model, training.parts["validation"]
    report = train(
        training.network,
        examples["train"],
        examples["validation"],
        targets.names,
        [target.weight for target in targets.targets],
        config.train,
        lambda epoch, done, total: on_progress(f"train epoch {epoch + 1}", done, total),
        training.auxiliary,
        training.start,
    )
    logits = logits_by_row(training.network, examples["validation"])
    calibration = fit_calibration(validation.labels, logits, targets.names, config.calibration)
    dtype, measured = fit_served_type(
        training.network, examples["validation"], validation, logits, calibration, targets
    )
    metrics = {"data": training.data, "training": asdict(report), **measured}
    return _Fitted(calibration=calibration, served_as=dtype, metrics=metrics)


def _publish(training: _Training, snapshot: Snapshot, fitted: _Fitted, search: dict[str, Any], out: Path) -> str:
    times_ms, recipe = training.parts["train"].timestamp_ms, training.recipe
    return save_bundle(
        out,
        schema=recipe.schema,
        targets=recipe.targets,
        network_config=recipe.model.network,
        vocabularies=training.vocabularies,
        network=training.network,
        calibration=fitted.calibration,
        metrics=fitted.metrics,
        served_as=fitted.served_as,
        provenance=Provenance(
            store_generation=snapshot.generation,
            taxonomy_fingerprint=snapshot.meta.taxonomy_fingerprint,
            attention_from=training.fixed.attention_model if training.fixed else "",
            train_from_ms=int(times_ms.min()),
            train_until_ms=int(times_ms.max()),
            search=search,
        ),
    )
