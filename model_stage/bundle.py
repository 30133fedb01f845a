"""A bundle: one published, immutable version of a trained model. Safetensors, YAML and JSON only; nothing executable.

schema.yaml targets.yaml network.yaml     what the model is
vocabulary.safetensors vocabulary.json    ids and names -> rows
weights.safetensors                       every parameter and buffer
served.safetensors                        vectors of all nodes, summed over their paths, as they are served
attention.safetensors                     fused attention vectors by id, what the index is built from
calibration.json                          per target, from logits to probabilities
metrics.json                              what training measured
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from safetensors import SafetensorError
from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from model_stage.calibration import CALIBRATION_FILE, Calibration, read_calibration
from model_stage.config.schema import Schema, load_yaml
from model_stage.config.targets import Targets
from model_stage.encoding.encoder import RequestEncoder
from model_stage.encoding.vocabulary import IdRows, TreeVocabulary, Vocabularies
from model_stage.errors import BundleError
from model_stage.networks import NetworkConfig, RankingNetwork
from store.publishing.generation import GenerationWriter, open_generation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from store.publishing.generation import OpenedGeneration

KIND: Final = "model"
ATTENTION_EXPORT = "attention.safetensors"
SERVED_VECTORS = "served.safetensors"
SMALL_BYTES = 1 << 20
"""Tensors below it are copied from their file: they are aligned then, and no page fault waits in them."""


class Provenance(BaseModel):
    """What a bundle was trained with: the `meta` of its manifest. Earlier versions wrote less of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_sha256: str = ""
    """Hash of the content of schema.yaml, independent of key order and layout."""
    store_generation: str = ""
    taxonomy_fingerprint: str = ""
    attention_from: str = ""
    """Bundle whose attention table was taken over and kept; empty = this one has its own."""
    train_from_ms: int | None = None
    """Time of the first impression learned from."""
    train_until_ms: int | None = None
    """Time of the last one."""
    search: dict[str, Any] = {}
    """How search was configured: the keys of search.yaml that change answers. Empty = not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A model ready to score: the network in evaluation mode, and the encoder that feeds it."""

    name: str
    attention_model: str
    """Name of the bundle whose attention table this one has: its own, or that of the one it was taken over from."""
    provenance: Provenance
    schema: Schema
    targets: Targets
    network_config: NetworkConfig
    vocabularies: Vocabularies
    network: RankingNetwork
    calibration: Calibration
    metrics: Mapping[str, Any]
    """Nested numbers, as training reported them."""

    @property
    def encoder(self) -> RequestEncoder:
        """The encoder after this bundle's schema and vocabularies."""
        return RequestEncoder(self.schema, self.vocabularies)


def new_network(
    schema: Schema, targets: Targets, config: NetworkConfig, vocabularies: Vocabularies, seed: int
) -> RankingNetwork:
    """Gives an untrained network; equal seeds give equal weights."""
    num_dense = len(RequestEncoder(schema, vocabularies).dense_names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RankingNetwork(schema, targets, vocabularies, config, num_dense)


def save_bundle(
    root: Path,
    *,
    schema: Schema,
    targets: Targets,
    network_config: NetworkConfig,
    vocabularies: Vocabularies,
    network: RankingNetwork,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    provenance: Provenance,
    served_as: torch.dtype = torch.float32,
) -> str:
    """Publishes a bundle under `root` and gives its name; `served_as` is the type of the vectors it is served with."""
    with GenerationWriter(root, kind=KIND) as writer:
        _dump_yaml(writer.path / "schema.yaml", schema)
        _dump_yaml(writer.path / "targets.yaml", targets)
        _dump_yaml(writer.path / "network.yaml", network_config)
        # Numbers that are not finite, which JSON does not know, become null.
        (writer.path / "metrics.json").write_bytes(to_json(_sorted(metrics), indent=1, inf_nan_mode="null"))
        (writer.path / CALIBRATION_FILE).write_text(calibration.to_json(), encoding="utf-8")
        names = {"behavior_names": dict(vocabularies.behavior_names), "streams": vocabularies.streams}
        (writer.path / "vocabulary.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
        safe_numpy.save_file(_vocabulary_arrays(vocabularies), writer.path / "vocabulary.safetensors")
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        safe_torch.save_file(weights, writer.path / "weights.safetensors")
        safe_torch.save_file(network.node_vectors(served_as), writer.path / SERVED_VECTORS)
        safe_numpy.save_file(attention_export(network, vocabularies), writer.path / ATTENTION_EXPORT)
        made = provenance.model_copy(update={"schema_sha256": content_sha256(writer.path / "schema.yaml")})
        writer.meta.update(made.model_dump(mode="json"))
        return writer.publish()


def load_bundle(root: Path, name: str | None = None) -> Bundle:
    """Opens a published bundle, ready to score; nothing is half-loaded.

    Large tables are mapped and not copied: processes that serve the same bundle share them.

    Raises:
        store.errors.GenerationError: Nothing is published, or a file does not match its manifest.
        BundleError: The files are whole but do not fit one another; names the file.
        ConfigError: A configuration file of the bundle does not parse.
    """
    opened = open_generation(root, KIND, name)
    path = opened.path
    provenance = _provenance(opened)
    schema = load_yaml(path / "schema.yaml", Schema)
    targets = load_yaml(path / "targets.yaml", Targets)
    config = load_yaml(path / "network.yaml", NetworkConfig)
    try:
        names = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))
        arrays = {name: tensor.numpy() for name, tensor in _mapped(path / "vocabulary.safetensors").items()}
        vocabularies = _vocabularies(arrays, names)
        network = new_network(schema, targets, config, vocabularies, seed=0)
        network.load_state_dict(_mapped(path / "weights.safetensors"), assign=True)
        served = SERVED_VECTORS in opened.manifest.files  # earlier versions wrote none
        network.prepare_for_serving(_mapped(path / SERVED_VECTORS) if served else network.node_vectors(torch.float32))
        metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    except (SafetensorError, RuntimeError, KeyError, ValueError) as exc:
        raise BundleError(f"{path}: the bundle's files do not fit one another ({exc}); train it anew") from exc
    calibrated = CALIBRATION_FILE in opened.manifest.files  # nor this
    return Bundle(
        name=opened.name,
        attention_model=provenance.attention_from or opened.name,
        provenance=provenance,
        schema=schema,
        targets=targets,
        network_config=config,
        vocabularies=vocabularies,
        network=network,
        calibration=read_calibration(path / CALIBRATION_FILE, targets.names) if calibrated else Calibration(),
        metrics=metrics,
    )


def _mapped(file: Path) -> dict[str, torch.Tensor]:
    """Gives the tensors of a file, the large ones as views of its pages: safetensors maps it, private and unwritten."""
    tensors = safe_torch.load_file(file)
    return {name: tensor.clone() if tensor.nbytes < SMALL_BYTES else tensor for name, tensor in tensors.items()}


def attention_export(network: RankingNetwork, vocabularies: Vocabularies) -> dict[str, np.ndarray[Any, Any]]:
    """Gives the fused attention vectors by id, the contract of `search_stage.index.build.build_index`.

    `category_ids`, `item_ids`: uint64 ids as int64 bit patterns (safetensors.numpy and every reader know int64);
    `category_vectors`, `item_vectors`: float32 (n, A), each already the sum over its path.
    """
    with torch.inference_mode():
        fused = network.attention.summed_nodes(torch.arange(len(vocabularies.tree.path))).numpy()
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part, known in (("category", vocabularies.tree.categories), ("item", vocabularies.tree.items)):
        arrays[f"{part}_ids"] = known.ids.view(np.int64)
        arrays[f"{part}_vectors"] = np.ascontiguousarray(fused[known.rows])
    return arrays


def content_sha256(path: Path) -> str:
    """Gives a hash of the content of a YAML file, independent of key order and layout."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _provenance(opened: OpenedGeneration) -> Provenance:
    manifest, schema = opened.path / "manifest.json", opened.path / "schema.yaml"
    try:
        found = Provenance.model_validate(opened.manifest.meta)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{manifest}: meta.{where}: {first['msg']}; train the bundle anew") from exc
    if found.schema_sha256 and found.schema_sha256 != content_sha256(schema):
        raise BundleError(
            f"{schema}: is not the schema that the weights were trained with: its sha256 is {content_sha256(schema)}, "
            f"{manifest} says {found.schema_sha256}; train the bundle anew"
        )
    return found


def _id_rows(arrays: Mapping[str, np.ndarray[Any, Any]], part: str) -> IdRows:
    return IdRows(ids=arrays[f"{part}.ids"].view(np.uint64), rows=arrays[f"{part}.rows"])


def _vocabulary_arrays(vocabularies: Vocabularies) -> dict[str, np.ndarray[Any, Any]]:
    tree = vocabularies.tree
    arrays: dict[str, np.ndarray[Any, Any]] = {"path": np.ascontiguousarray(tree.path)}
    for part, known in (("category", tree.categories), ("item", tree.items)):
        arrays[f"{part}.ids"] = known.ids.view(np.int64)
        arrays[f"{part}.rows"] = known.rows
    for name, ids in vocabularies.categorical.items():
        arrays[f"field.{name}"] = ids.view(np.int64)
    for name, boundaries in vocabularies.boundaries.items():
        arrays[f"boundaries.{name}"] = boundaries
    return arrays


def _vocabularies(arrays: Mapping[str, np.ndarray[Any, Any]], names: Mapping[str, Any]) -> Vocabularies:
    def of(prefix: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        for key, values in arrays.items():
            if key.startswith(prefix):
                yield key.removeprefix(prefix), values

    return Vocabularies(
        tree=TreeVocabulary(
            categories=_id_rows(arrays, "category"), items=_id_rows(arrays, "item"), path=arrays["path"]
        ),
        behavior_names={field: tuple(known) for field, known in names["behavior_names"].items()},
        categorical={field: ids.view(np.uint64) for field, ids in of("field.")},
        streams=tuple((str(domain), str(action)) for domain, action in names["streams"]),
        boundaries=dict(of("boundaries.")),
    )


def _sorted(content: Any) -> Any:  # noqa: ANN401 (what JSON holds)
    if isinstance(content, dict):
        return {key: _sorted(content[key]) for key in sorted(content)}
    return [_sorted(each) for each in content] if isinstance(content, list | tuple) else content


def _dump_yaml(path: Path, model: BaseModel) -> None:
    path.write_text(yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
