"""The feature schema: which side-info fields the network reads, and how wide its tables are.

Source of truth is a YAML file, checked here. A field's *part* says whom it describes: the user, the candidate or the
context of the request, or each behavior. Behaviors carry the built-in fields item and category (through the taxonomy),
domain, action and scene besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from model_stage.errors import ConfigError
from store.errors import InputError
from store.fields import ID, ID_LISTS, NUMBER, FieldType
from store.files.yaml_text import line_of, parse_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
H = TypeVar("H", "CategoricalField", "MultiValuedField")
Part = Literal["user", "candidate", "context", "behavior"]
BUILT_IN = ("domain", "action", "scene")
"""Side-info that every behavior has."""
DEFAULT_DIM = 4


class StrictModel(BaseModel):
    """A piece of configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: object) -> object:
        allowed = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [key for key in values if key not in allowed] if isinstance(values, dict) else []
        if unknown:
            raise error_at((str(unknown[0]),), f"Extra inputs are not permitted; allowed: {', '.join(allowed)}")
        return values


class CategoricalField(StrictModel):
    """A field whose values are ids; each known id, or each of `rows` groups of ids, has an embedding."""

    type: ClassVar[FieldType[Any]] = ID
    kind: Literal["categorical"]
    name: str = Field(min_length=1)
    part: Part
    dim: int | None = Field(default=None, ge=1, le=256)
    """Width of its embedding; None = 4."""
    rows: int | None = Field(default=None, ge=2, le=2**24)
    """Hash every id to one of that many rows, without a vocabulary: an id never seen shares the row of others."""
    min_count: int | None = Field(default=None, ge=1)
    """Training impressions an id must have to get a row of its own; None = 2. Rarer ids, and those never seen, share
    the out-of-vocabulary row; with 1 no impression is left to train that row, and it stays zero."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> CategoricalField:
        return _check_rows(self)

    @property
    def width(self) -> int:
        """Width of its embedding, where it has one of its own."""
        return self.dim or DEFAULT_DIM


class MultiValuedField(StrictModel):
    """A field whose values are lists of ids; its embedding is the mean over the known ones, zero if there is none."""

    type: ClassVar[FieldType[Any]] = ID_LISTS
    kind: Literal["multi_valued"]
    name: str = Field(min_length=1)
    part: Part
    dim: int = Field(default=DEFAULT_DIM, ge=1, le=256)
    """Width of its embedding."""
    rows: int | None = Field(default=None, ge=2, le=2**24)
    """See `CategoricalField`."""
    min_count: int | None = Field(default=None, ge=1)
    """Training impressions whose list must have an id for it to have a row; None = 2. Rarer ids are unknown."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> MultiValuedField:
        return _check_rows(self)

    @property
    def width(self) -> int:
        """Width of its embedding."""
        return self.dim


class NumericField(StrictModel):
    """A field whose values are numbers; standardised with the training set's mean and deviation."""

    type: ClassVar[FieldType[Any]] = NUMBER
    kind: Literal["numeric"]
    name: str = Field(min_length=1)
    part: Part
    transform: Literal["identity", "log1p"] = "identity"
    """Applied before standardising; `log1p` suits counts and needs values of at least 0."""


class BucketedField(StrictModel):
    """A field whose values are numbers, cut into buckets with an embedding each; so has missing.

    The cuts are quantiles of the training impressions' values: no transform would move them.
    """

    type: ClassVar[FieldType[Any]] = NUMBER
    kind: Literal["bucketed"]
    name: str = Field(min_length=1)
    part: Part
    buckets: int = Field(default=16, ge=2, le=1024)
    """At most: where many impressions have the same value there are fewer."""
    dim: int | None = Field(default=None, ge=1, le=256)
    """Width of its embedding; None = 4."""

    @property
    def width(self) -> int:
        """Width of its embedding, where it has one of its own."""
        return self.dim or DEFAULT_DIM


EmbeddedField = CategoricalField | BucketedField
"""A field with one row of a table per candidate."""
AnyField = CategoricalField | MultiValuedField | NumericField | BucketedField
SideField = Annotated[AnyField, Field(discriminator="kind")]


MatchMeasure = Literal["count", "age", "oldest", "gap", "due", "within"]

_Days = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Schema(StrictModel):
    """Everything the network reads besides the retrieved behaviors themselves."""

    attention_dim: int = Field(default=16, ge=2, le=256)
    """Width of the attention table: what soft search and the attention weights use."""
    representation_dim: int = Field(default=16, ge=2, le=256)
    """Width of the representation table: what the attention pools."""
    behavior_fields: tuple[str, ...] = ("domain", "action")
    """Side-info of a behavior that is fused into its two embeddings: domain, action, scene, and the fields of the part
    `behavior`."""
    item_min_count: int = Field(default=5, ge=1)
    """Training behaviors and impressions an item must have to get a row of its own; a rarer one is its category."""
    match_levels: int = Field(default=4, ge=1, le=16)
    """Levels of match statistics that are dense inputs: 1 = the ad and its products only."""
    match_measures: tuple[MatchMeasure, ...] = ("count", "age")
    """What of match statistics are dense inputs: the number of matches, the ages of the newest and of the oldest, the
    mean gap between two, the newest one's age in mean gaps (how far the next is due), and the numbers within ages."""
    match_within_days: tuple[_Days, ...] = (7, 30, 90)
    """Ages within which matches are counted as further dense inputs; search must answer each (`statistics.within_days`
    of search.yaml), or the input is missing."""
    fields: tuple[SideField, ...] = ()

    match_half_life_days: tuple[_Days | None, ...] = ()
    """Half-lives of the profiles whose similarity to the candidate is a dense input, None = no decay; search must
    answer each (`statistics.half_life_days` of search.yaml), or the input is missing."""

    @field_validator("match_measures", "match_within_days", "match_half_life_days")
    @classmethod
    def _each_once(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"each may be named once, are {list(values)}")
        return values

    @model_validator(mode="after")
    def _names_are_unique(self) -> Schema:
        names = [field.name for field in self.fields]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise error_at(("fields", at, "name"), f"{name!r} is declared twice")
        return self

    @model_validator(mode="after")
    def _behavior_fields_are_declared(self) -> Schema:
        own = [*BUILT_IN, *self.side_info]
        for at, name in enumerate(self.behavior_fields):
            if name not in own:
                raise error_at(
                    ("behavior_fields", at), f"{name!r} is no field of behaviors; there are {', '.join(own)}"
                )
            if name in self.behavior_fields[:at]:
                raise error_at(("behavior_fields", at), f"{name!r} is listed twice")
        for at, field in enumerate(self.fields):
            problem = self._problem_of_behavior_field(field) if field.part == "behavior" else None
            if problem is not None:
                raise error_at(("fields", at, problem[0]), problem[1])
        return self

    def _problem_of_behavior_field(self, field: AnyField) -> tuple[str, str] | None:
        if not isinstance(field, EmbeddedField):
            return "kind", f"a behavior has one embedded value of a field: categorical or bucketed, not {field.kind}"
        if field.dim is not None:
            return "dim", "a field of behaviors is fused into the two tables and is as wide as these"
        if field.name in (*BUILT_IN, "node"):
            return "name", f"{field.name!r} is what every behavior has; give the field another name"
        if field.name not in self.behavior_fields:
            return "name", f"{field.name!r} is of behaviors, and not among behavior_fields"
        return None

    @property
    def side_info(self) -> tuple[str, ...]:
        """Names of the fields of behaviors that search must be asked for."""
        return tuple(field.name for field in self.fields if field.part == "behavior")

    def behavior_field(self, name: str) -> EmbeddedField | None:
        """Gives a declared field of behaviors; None = built in."""
        found = [f for f in self.embedded("behavior") if f.name == name]
        return found[0] if found else None

    def embedded(self, part: Part) -> list[EmbeddedField]:
        """Gives the categorical and bucketed fields of a part, in file order."""
        return [f for f in self.fields if isinstance(f, EmbeddedField) and f.part == part]

    def multi_valued(self, part: Part) -> list[MultiValuedField]:
        """Gives the multi-valued fields of a part, in file order."""
        return [f for f in self.fields if isinstance(f, MultiValuedField) and f.part == part]

    def numeric(self, part: Part) -> list[NumericField]:
        """Gives the numeric fields of a part, in file order."""
        return [f for f in self.fields if isinstance(f, NumericField) and f.part == part]


def _check_rows(field: H) -> H:
    if field.rows is not None and field.min_count is not None:
        raise error_at(("min_count",), "a field with `rows` has no vocabulary that ids could be too rare for")
    return field


def load_yaml(path: Path, model: type[M]) -> M:
    """Reads and checks a YAML configuration file.

    Raises:
        ConfigError: The file is absent, is no YAML mapping, has a key twice, or breaks the model; names file, key, what
            is allowed and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = parse_yaml(text)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not YAML: {exc}") from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    except InputError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return parse_config(str(path), raw, model, text)


def parse_config(origin: str, raw: object, model: type[M], text: str = "") -> M:
    """Checks a parsed configuration; with its text, messages name the line. See `load_yaml`."""
    try:
        return model.model_validate({} if raw is None else raw)
    except ValidationError as exc:
        raise ConfigError("\n".join(_message(origin, error, text) for error in exc.errors())) from exc


def error_at(location: tuple[str | int, ...], message: str) -> PydanticCustomError:
    """Gives what a validator of a whole model raises about a part of it.

    Args:
        location: From the model that is checked to the part.
        message: What is wrong, and what is allowed.
    """
    return PydanticCustomError("wrong_part", "{message}", {"message": message, "location": location})


def _message(origin: str, error: ErrorDetails, text: str) -> str:
    location = (*error["loc"], *error.get("ctx", {}).get("location", ()))
    key = ".".join(map(str, location)) or "(top level)"
    return f"{origin}: {key}: {error['msg']}" + (f" (line {line_of(text, location)})" if text else "")
