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
from model_stage.ranking.compatibility import find_field_problem
from model_stage.training.auxiliary import AuxiliaryModel
from model_stage.training.calibrate import CalibrationMethod, fit_calibration
from model_stage.training.history import HistoryReader
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.scoring import calibrated_report, logits_of
from model_stage.training.trainer import Example, train
from model_stage.training.vocabularies import build_vocabularies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.training.impressions import Impressions
    from model_stage.types import Retriever
    from store.behavior_store import Snapshot

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
    retriever: Retriever,
    encoder: RequestEncoder,
    on_request: Callable[[int, int], None] = lambda done, total: None,
    histories: HistoryReader | None = None,
) -> list[Example]:
    """Retrieves, as of each request's own time, and encodes; one example per request.

    Args:
        impressions: Labelled impressions.
        schema: Says which part each field belongs to.
        retriever: What will also serve.
        encoder: What will also serve.
        on_request: Called with (requests done, requests in all).
        histories: Reads the whole history of each request besides, for an auxiliary loss; None = there is none.

    Raises:
        ConfigError: The store holds a field as another kind than the schema says.
        store.errors.FieldError: Behaviors of the store lack side-info that the schema names.
    """
    encoders = AncestorEncoder(encoder, retriever)
    grouped = list(requests_of(impressions, schema))
    examples = []
    for done, (rows, request) in enumerate(grouped, start=1):
        found = retriever.search(request.query(behavior_fields=schema.side_info))
        problem = find_field_problem(schema, found)
        if problem:
            raise ConfigError(f"schema.yaml: {problem}")
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
    names = recipe.targets.names
    splits = load_yaml(dataset / "splits.json", Splits)
    impressions = load_impressions(dataset, recipe.schema, names)
    parts = {split: splits.select(impressions, split) for split in ("train", "validation")}
    fixed = load_bundle(attention_from) if attention_from is not None else None
    if fixed is not None:
        _check_attention(fixed, recipe.schema)
    vocabularies = (
        fixed.vocabularies
        if fixed
        else build_vocabularies(recipe.schema, snapshot, parts["train"], splits.validation_from_ms)
    )
    config = recipe.model
    network = new_network(recipe.schema, recipe.targets, config.network, vocabularies, config.train.seed)
    if fixed is not None:
        network.attention.load_state_dict(fixed.network.attention.state_dict())
        network.attention.requires_grad_(False)
    encoder = RequestEncoder(recipe.schema, vocabularies)
    auxiliary, histories = None, None
    options = config.network.preset.auxiliary
    if options is not None and fixed is None:  # a fixed attention table learns nothing from it
        auxiliary = AuxiliaryModel(recipe.schema, recipe.targets, config.network, options.weight, config.train.seed)
        histories = HistoryReader(snapshot, encoder, options.newest)
    readers = {"train": histories, "validation": None}
    examples = {
        split: retrieve_examples(
            part, recipe.schema, retriever, encoder, partial(on_progress, f"retrieve {split}"), readers[split]
        )
        for split, part in parts.items()
    }
    report = train(
        network,
        examples["train"],
        examples["validation"],
        names,
        [target.weight for target in recipe.targets.targets],
        config.train,
        lambda epoch, done, total: on_progress(f"train epoch {epoch + 1}", done, total),
        auxiliary,
    )
    logits = logits_of(network, examples["validation"], parts["validation"])
    calibration = fit_calibration(parts["validation"].labels, logits, names, config.calibration)
    metrics: dict[str, Any] = {"training": asdict(report)}
    metrics["validation"] = calibrated_report(parts["validation"], logits, calibration, recipe.targets)
    name = save_bundle(
        out,
        schema=recipe.schema,
        targets=recipe.targets,
        network_config=config.network,
        vocabularies=vocabularies,
        network=network,
        calibration=calibration,
        metrics=metrics,
        provenance=Provenance(
            store_generation=snapshot.generation,
            taxonomy_fingerprint=snapshot.meta.taxonomy_fingerprint,
            attention_from=fixed.attention_model if fixed else "",
            train_from_ms=int(parts["train"].timestamp_ms.min()),
            train_until_ms=int(parts["train"].timestamp_ms.max()),
        ),
    )
    return Trained(name=name, metrics=metrics)


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
