"""What a bundle is: its configuration, what it was trained with, what training measured, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_stage.bundle import KIND, load_bundle
from model_stage.config.schema import NumericField
from store.publishing.generation import open_generation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from model_stage.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One file of a bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """What `lookback-model bundle show` says."""

    name: str
    created_ms: int
    network: Mapping[str, Any]
    """network.yaml."""
    schema: Mapping[str, Any]
    """schema.yaml."""
    targets: Mapping[str, Any]
    """targets.yaml."""
    provenance: Mapping[str, Any]
    attention_model: str
    parameters: Mapping[str, int]
    """Numbers that were learned, by the part of the network they belong to."""
    field_rows: Mapping[str, int]
    """Rows of the embedding table of each field that has one; how many of them are values: `Vocabularies`."""
    calibration: Mapping[str, str]
    """Kind per target."""
    served_as: str
    """Type of the vectors of nodes that a server looks up; `metrics.bfloat16_drift` has what it was chosen by."""
    metrics: Mapping[str, Any]
    files: Mapping[str, FileFacts]


def facts_of(root: Path, name: str | None = None) -> tuple[Bundle, BundleFacts]:
    """Opens a bundle and says what it is.

    Raises:
        store.errors.GenerationError, BundleError, ConfigError: As `model_stage.bundle.load_bundle`.
    """
    bundle = load_bundle(root, name)
    manifest = open_generation(root, KIND, bundle.name, check_content=False).manifest
    facts = BundleFacts(
        name=bundle.name,
        created_ms=manifest.created_ms,
        network=bundle.network_config.model_dump(mode="json"),
        schema=bundle.schema.model_dump(mode="json"),
        targets=bundle.targets.model_dump(mode="json"),
        provenance=bundle.provenance.model_dump(mode="json"),
        attention_model=bundle.attention_model,
        parameters=_parameters(bundle),
        field_rows={
            field.name: bundle.vocabularies.num_rows(field)
            for field in bundle.schema.fields
            if not isinstance(field, NumericField)
        },
        calibration={target: bundle.calibration.kind(target) for target in bundle.targets.names},
        served_as=str(bundle.network.served_type).removeprefix("torch."),
        metrics=bundle.metrics,
        files={path: FileFacts(bytes=entry.size, sha256=entry.sha256) for path, entry in manifest.files.items()},
    )
    return bundle, facts


def _parameters(bundle: Bundle) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, parameter in bundle.network.named_parameters():
        part = name.split(".", 1)[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts
