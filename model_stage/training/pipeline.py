"""From a dataset directory to a published bundle: impressions, point-in-time retrieval, training, report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from model_stage.bundle import Provenance, load_bundle, new_network, save_bundle
from model_stage.config.schema import NumericField, Schema, StrictModel, load_yaml
from model_stage.config.targets import Targets
from model_stage.config.train import TrainConfig
from model_stage.encoding.ancestors import AncestorEncoder
from model_stage.encoding.encoder import RequestEncoder
from model_stage.errors import ConfigError
from model_stage.networks import NetworkConfig
from model_stage.ranking.compatibility import find_field_mismatch, find_newest_mismatch
from model_stage.training.auxiliary import AuxiliaryModel
from model_stage.training.calibrate import CalibrationMethod, fit_calibration
from model_stage.training.history import HistoryReader
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.scoring import calibrated_report, logits_of
from model_stage.training.trainer import Example, train
from model_stage.training.vocabularies import build_vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.calibration import Calibration
    from model_stage.encoding.vocabulary import Vocabularies
    from model_stage.networks import RankingNetwork
    from model_stage.networks.preset import Preset
    from model_stage.types import Retriever
    from store.dataset.impressions import Impressions
    from store.reading.snapshot import Snapshot

SPLITS = ("train", "validation", "test")


class Splits(StrictModel):
    """`splits.json` of a dataset: where in time training ends and testing begins, milliseconds UTC."""

    train_from_ms: int | None = None
    """Impressions before it are left out; None = none are."""
    validation_from_ms: int = Field(gt=0)
    test_from_ms: int = Field(gt=0)

    def select(self, impressions: Impressions, split: str) -> Impressions:
        """Gives the impressions of `train`, `validation` or `test`."""
        bounds = {
            "train": (self.train_from_ms, self.validation_from_ms),
            "validation": (self.validation_from_ms, self.test_from_ms),
            "test": (self.test_from_ms, None),
        }
        return impressions.between(*bounds[split])


class ModelConfig(StrictModel):
    """`train.yaml`: the network and how it is trained."""

    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
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


def retrieve_examples(
    impressions: Impressions,
    schema: Schema,
    preset: Preset,
    retriever: Retriever,
    encoder: RequestEncoder,
    on_request: Callable[[int, int], None] = lambda done, total: None,
    histories: HistoryReader | None = None,
) -> list[Example]:
    """Retrieves, as of each request's own time, and encodes; one example per request.

    Args:
        impressions: Labelled impressions.
        schema: Says which part each field belongs to.
        preset: Says how much of the user's sequence to retrieve.
        retriever: What will also serve.
        encoder: What will also serve.
        on_request: Called with (requests done, requests in all).
        histories: Reads the whole history of each request besides, for an auxiliary loss; None = there is none.

    Raises:
        ConfigError: A field is of another kind than the schema says, or fewer newest behaviors come than are read.
        store.errors.FieldError: Behaviors of the store lack side-info that the schema names.
    """
    encoders = AncestorEncoder(encoder, retriever)
    grouped = list(requests_of(impressions, schema))
    examples = []
    for done, (rows, request) in enumerate(grouped, start=1):
        found = retriever.search(request.query(newest=preset.newest_read, behavior_fields=schema.side_info))
        if (problem := find_field_mismatch(schema, found)) is not None:
            raise ConfigError(f"schema.yaml: {problem}")
        if (problem := find_newest_mismatch(preset, found)) is not None:
            raise ConfigError(f"train.yaml: {problem}")
        examples.append(
            Example(
                encoded=encoders.encode(request, found)[0],
                labels=impressions.labels[rows],
                rows=rows,
                history=None if histories is None else histories.read(request),
            )
        )
        on_request(done, len(grouped))
    return examples


def train_bundle(
    recipe: Recipe,
    dataset: Path,
    snapshot: Snapshot,
    retriever: Retriever,
    out: Path,
    *,
    attention_from: Path | None = None,
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
        on_progress: Called with (what, done, total).

    Raises:
        ConfigError: The schema does not fit the bundle whose attention table is kept, or the store's fields.
    """
    training = _prepare(recipe, dataset, snapshot, attention_from)
    examples = _retrieve(training, snapshot, retriever, on_progress)
    calibration, metrics = _fit(training, examples, on_progress)
    return Trained(name=_publish(training, snapshot, calibration, metrics, out), metrics=metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """What a training starts with."""

    recipe: Recipe
    parts: Mapping[str, Impressions]
    """Of the splits `train` and `validation`."""
    fixed: Bundle | None
    """The bundle whose vocabularies and attention table are kept."""
    vocabularies: Vocabularies
    network: RankingNetwork
    auxiliary: AuxiliaryModel | None


def _prepare(recipe: Recipe, dataset: Path, snapshot: Snapshot, attention_from: Path | None) -> _Training:
    """Reads the impressions, and makes vocabularies, the network and the auxiliary loss. Arguments: `train_bundle`."""
    schema, targets, config = recipe.schema, recipe.targets, recipe.model
    splits = load_yaml(dataset / "splits.json", Splits)
    impressions = load_impressions(dataset, schema, targets.names)
    parts = {split: splits.select(impressions, split) for split in ("train", "validation")}
    fixed = load_bundle(attention_from) if attention_from is not None else None
    if fixed is not None:
        _check_attention(fixed, schema)
        vocabularies = fixed.vocabularies
    else:
        vocabularies = build_vocabularies(schema, snapshot, parts["train"], splits.validation_from_ms)
    network = new_network(schema, targets, config.network, vocabularies, config.train.seed)
    auxiliary, options = None, config.network.preset.auxiliary
    if fixed is not None:
        network.attention.load_state_dict(fixed.network.attention.state_dict())
        network.attention.requires_grad_(False)
    elif options is not None:  # a fixed attention table would learn nothing from it
        auxiliary = AuxiliaryModel(schema, targets, config.network, options.weight, config.train.seed)
    return _Training(
        recipe=recipe, parts=parts, fixed=fixed, vocabularies=vocabularies, network=network, auxiliary=auxiliary
    )


def _retrieve(
    training: _Training, snapshot: Snapshot, retriever: Retriever, on_progress: Callable[[str, int, int], None]
) -> dict[str, list[Example]]:
    """Gives the examples of each split; those of `train` have whole histories where an auxiliary loss reads them."""
    schema = training.recipe.schema
    encoder = RequestEncoder(schema, training.vocabularies)
    histories: dict[str, HistoryReader] = {}
    preset = training.recipe.model.network.preset
    if training.auxiliary is not None and preset.auxiliary is not None:
        histories["train"] = HistoryReader(snapshot, encoder, preset.auxiliary.newest)
    return {
        split: retrieve_examples(
            part, schema, preset, retriever, encoder, partial(on_progress, f"retrieve {split}"), histories.get(split)
        )
        for split, part in training.parts.items()
    }


def _fit(
    training: _Training, examples: Mapping[str, Sequence[Example]], on_progress: Callable[[str, int, int], None]
) -> tuple[Calibration, dict[str, Any]]:
    """Trains the network in place, and fits and measures its calibration on the validation split."""
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
    )
    logits = logits_of(training.network, examples["validation"], validation)
    calibration = fit_calibration(validation.labels, logits, targets.names, config.calibration)
    measured = calibrated_report(validation, logits, calibration, targets)
    return calibration, {"training": asdict(report), "validation": measured}


def _publish(
    training: _Training, snapshot: Snapshot, calibration: Calibration, metrics: Mapping[str, Any], out: Path
) -> str:
    times_ms, recipe = training.parts["train"].timestamp_ms, training.recipe
    return save_bundle(
        out,
        schema=recipe.schema,
        targets=recipe.targets,
        network_config=recipe.model.network,
        vocabularies=training.vocabularies,
        network=training.network,
        calibration=calibration,
        metrics=metrics,
        provenance=Provenance(
            store_generation=snapshot.generation,
            taxonomy_fingerprint=snapshot.meta.taxonomy_fingerprint,
            attention_from=training.fixed.attention_model if training.fixed else "",
            train_from_ms=int(times_ms.min()),
            train_until_ms=int(times_ms.max()),
        ),
    )


def _check_attention(fixed: Bundle, schema: Schema) -> None:
    """Checks that a schema can be used with the vocabularies and the attention table of another bundle."""
    for key in ("attention_dim", "behavior_fields"):
        theirs, ours = getattr(fixed.schema, key), getattr(schema, key)
        if theirs != ours:
            raise ConfigError(
                f"schema.yaml: {key}: {ours}, but the attention table of bundle {fixed.name} is kept and has {theirs}"
            )
    for name in schema.side_info:
        if schema.behavior_field(name) != fixed.schema.behavior_field(name):
            raise ConfigError(
                f"schema.yaml: fields: {name!r} is not declared as in bundle {fixed.name}, of which the attention "
                "table is kept"
            )
    for field in schema.fields:
        if not isinstance(field, NumericField) and not fixed.vocabularies.knows(field):
            known = (*fixed.vocabularies.categorical, *fixed.vocabularies.boundaries)
            raise ConfigError(
                f"schema.yaml: fields: {field.name!r} has no vocabulary in bundle {fixed.name}, which knows "
                f"{', '.join(known) or 'none'}; train that bundle with this schema first"
            )
