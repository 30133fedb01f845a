"""The feature schema: which side-info fields the network reads, and how wide its tables are.

Source of truth is a YAML file, checked here. A field's *part* says whom it describes: the user, the candidate or the
context of the request. Behaviors carry the built-in fields item and category (through the taxonomy), domain, action and
scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_stage.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

M = TypeVar("M", bound=BaseModel)
Part = Literal["user", "candidate", "context"]


class StrictModel(BaseModel):
    """A piece of configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoricalField(StrictModel):
    """A field whose values are ids; values never seen in training share one out-of-vocabulary row."""

    kind: Literal["categorical"]
    name: str = Field(min_length=1)
    part: Part
    dim: int = Field(default=4, ge=1, le=256)
    """Width of its embedding."""


class NumericField(StrictModel):
    """A field whose values are numbers; standardised with the training set's mean and deviation."""

    kind: Literal["numeric"]
    name: str = Field(min_length=1)
    part: Part
    transform: Literal["identity", "log1p"] = "identity"
    """Applied before standardising; `log1p` suits counts and needs values of at least 0."""


SideField = Annotated[CategoricalField | NumericField, Field(discriminator="kind")]


class Schema(StrictModel):
    """Everything the network reads besides the retrieved behaviors themselves."""

    attention_dim: int = Field(default=16, ge=2, le=256)
    """Width of the attention table: what soft search and the attention weights use."""
    representation_dim: int = Field(default=16, ge=2, le=256)
    """Width of the representation table: what the attention pools."""
    behavior_fields: tuple[Literal["domain", "action", "scene"], ...] = ("domain", "action")
    """Side-info of a behavior that is fused into its two embeddings."""
    item_min_count: int = Field(default=5, ge=1)
    """Training behaviors and impressions an item must have to get a row of its own; a rarer one is its category."""
    match_levels: int = Field(default=4, ge=1, le=16)
    """Levels of match statistics that are dense inputs: 1 = the ad and its products only."""
    fields: tuple[SideField, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Schema:
        names = [field.name for field in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"fields: {name!r} is declared twice")
        return self

    def categorical(self, part: Part) -> list[CategoricalField]:
        """Gives the categorical fields of a part, in file order."""
        return [f for f in self.fields if isinstance(f, CategoricalField) and f.part == part]

    def numeric(self, part: Part) -> list[NumericField]:
        """Gives the numeric fields of a part, in file order."""
        return [f for f in self.fields if isinstance(f, NumericField) and f.part == part]


def load_yaml(path: Path, model: type[M]) -> M:
    """Reads and checks a YAML configuration file.

    Raises:
        ConfigError: The file is absent, is no YAML mapping, or breaks the model; names file, key and what is allowed.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path}: not YAML: {exc}") from exc
    return parse_config(str(path), raw, model)


def parse_config(origin: str, raw: object, model: type[M]) -> M:
    """Checks a parsed configuration; see `load_yaml`."""
    try:
        return model.model_validate({} if raw is None else raw)
    except ValidationError as exc:
        lines = [f"{origin}: {'.'.join(map(str, e['loc'])) or '(top level)'}: {e['msg']}" for e in exc.errors()]
        raise ConfigError("\n".join(lines)) from exc
