"""Configuration of search, read from YAML and checked by pydantic. `search.yaml` documents every key."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from search_stage.errors import ConfigError
from store.errors import InputError
from store.files.yaml_text import line_of, parse_yaml
from store.retrieval import NO_DECAY
from store.types import DAY_MS

FILE_NAME = "search.yaml"
_log = logging.getLogger(__name__)
ENGINES = tuple(sorted(found.name for found in iter_modules([str(Path(__file__).parent / "soft" / "engines")])))
"""Engines of soft search: the files of `soft/engines`."""


_Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HardPolicy(_Part):
    """How far hard search climbs, and how much it takes, in one domain."""

    quota: Annotated[int, Field(ge=0, le=10_000)] = 40
    """Behaviors per candidate at most; 0 = none of this domain."""
    min_matches: Annotated[int, Field(ge=0)] = 10
    """Climb while fewer are found."""
    max_level: Annotated[int, Field(ge=0, le=64)] = 3
    """The last level to climb to; 0 = the ad and its products, 1 = its category."""
    max_age_days: _Days | None = None
    """Largest age of a behavior at the request's time; None = no limit."""
    actions: frozenset[str] | None = None
    """Only behaviors of these actions; None = of all."""
    scenes: frozenset[str] | None = None
    """Only behaviors of these scenes; None = of all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_matches > self.quota:
            raise ValueError(f"min_matches ({self.min_matches}) must not exceed quota ({self.quota})")
        return self


class HardConfig(_Part):
    """Policies of hard search by domain."""

    default: HardPolicy = HardPolicy()
    domains: dict[str, HardPolicy] = {}

    def policy(self, domain: str) -> HardPolicy:
        """Gives the policy of a domain: its own, else the default."""
        return self.domains.get(domain, self.default)

    @property
    def deepest_level(self) -> int:
        """The deepest climb of any policy."""
        return max(policy.max_level for policy in (self.default, *self.domains.values()))


class AgeBonus(_Part):
    """What soft search adds to the score of behaviors by their age."""

    max_age_days: _Days
    """Largest age at the request's time; younger behaviors belong to the entry before."""
    add: Annotated[float, Field(ge=-1e6, le=1e6)]
    """To the inner product of attention vectors."""


class SoftConfig(_Part):
    """Limits of soft search."""

    top_k: Annotated[int, Field(ge=0, le=2048)] = 40
    engine: str = "scan"
    """One of `ENGINES`: what searches exactly; all answer the same."""
    approximate_from: Annotated[int, Field(ge=1)] | None = None
    """Distinct vectors of a history from which on only the nearest clusters are looked into; None = never."""
    probe_one_in: Annotated[int, Field(ge=1, le=65_535)] = 8
    """Then, probe 1/N of the index's clusters."""
    time_term: tuple[AgeBonus, ...] = ()
    """What is added to a score by the behavior's age before the best are chosen, ages ascending; the scores that are
    answered are without it."""

    @field_validator("engine")
    @classmethod
    def _engine_exists(cls, engine: str) -> str:
        if engine not in ENGINES:
            raise ValueError(f"must be one of {', '.join(ENGINES)}; is {engine!r}")
        return engine

    @model_validator(mode="after")
    def _ages_ascend(self) -> Self:
        ages = [bonus.max_age_days for bonus in self.time_term]
        if ages != sorted(set(ages)):
            raise ValueError(f"time_term: max_age_days must ascend, are {ages}")
        return self


class RecentConfig(_Part):
    """Limits of the recency fill."""

    top_k: Annotated[int, Field(ge=0, le=10_000)] = 20


class StatisticsConfig(_Part):
    """Which match statistics to answer."""

    levels: Annotated[int, Field(ge=1, le=64)] = 4
    within_days: Annotated[tuple[_Days, ...], Field(max_length=16)] = (7, 30, 90)
    """Ages, ascending: matches no older than each are counted beside all of them."""

    half_life_days: Annotated[tuple[_Days | None, ...], Field(max_length=16)] = ()
    """Of the profiles that candidates are compared with; None = no decay."""

    @field_validator("half_life_days")
    @classmethod
    def _each_once(cls, half_lives: tuple[float | None, ...]) -> tuple[float | None, ...]:
        if len(set(half_lives)) < len(half_lives):
            raise ValueError(f"each may be named once, are {list(half_lives)}")
        return half_lives

    @field_validator("within_days")
    @classmethod
    def _ages_ascend(cls, ages: tuple[float, ...]) -> tuple[float, ...]:
        if list(ages) != sorted(set(ages)):
            raise ValueError(f"must ascend, are {list(ages)}")
        return ages

    @property
    def within_ms(self) -> tuple[int, ...]:
        """The ages in milliseconds."""
        return tuple(round(days * DAY_MS) for days in self.within_days)

    @property
    def half_life_ms(self) -> tuple[int, ...]:
        """The half-lives in milliseconds, at least 1; `NO_DECAY` for none."""
        return tuple(NO_DECAY if days is None else max(round(days * DAY_MS), 1) for days in self.half_life_days)


class LimitsConfig(_Part):
    """What a request may ask for."""

    max_candidates: Annotated[int, Field(ge=1)] = 1000
    max_covers: Annotated[int, Field(ge=0)] = 500_000
    max_categories: Annotated[int, Field(ge=0)] = 100_000
    max_newest: Annotated[int, Field(ge=0)] = 1000
    max_entries: Annotated[int, Field(ge=1)] = 4_000_000
    clock_skew_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0


class SearchConfig(_Part):
    """Everything `search.yaml` may say; each default equals the packaged file's."""

    hard: HardConfig = HardConfig()
    soft: SoftConfig = SoftConfig()
    recent: RecentConfig = RecentConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    limits: LimitsConfig = LimitsConfig()

    @cached_property
    def configuration(self) -> str:
        """What changes answers, as JSON with sorted keys: all but the limits, and the engine, of which all agree."""
        found = self.model_dump(exclude={"limits": True, "soft": {"engine"}})
        return json.dumps(found, sort_keys=True, default=sorted)  # a set of names has no order of its own

    @staticmethod
    def load(folder: Path | None = None) -> SearchConfig:
        """Reads `search.yaml`; keys it leaves out keep their defaults.

        Args:
            folder: The configuration folder that holds it; None = the packaged file. A folder with a `train.yaml` and
                no `search.yaml` keeps every default, and the log says so.

        Raises:
            ConfigError: Missing, unreadable, not YAML, an unknown key or a value out of range; names file and key.
        """
        source = (files("search_stage") if folder is None else folder).joinpath(FILE_NAME)
        text = ""
        try:
            text = source.read_text(encoding="utf-8")
            content = parse_yaml(text)
            return SearchConfig.model_validate({} if content is None else content)
        except FileNotFoundError as error:
            if folder is not None and folder.joinpath("train.yaml").exists():
                _log.warning("%s: has no %s: every default holds", folder, FILE_NAME)
                return SearchConfig()
            raise ConfigError(f"{folder}: has no {FILE_NAME}; an empty one keeps every default") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read: {error}") from error
        except InputError as error:
            raise ConfigError(f"{source}: {error}") from error
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']} (line {line_of(text, e['loc'])})" for e in error.errors()
            )
            raise ConfigError(f"{source}: {problems}") from error
