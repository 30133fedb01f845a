"""`targets.yaml`: the optimisation objectives and each one's positional encodings.

Target-decoupled positional encoding means that every positional table belongs to a target: how fast a behavior fades
may differ between a click and a purchase. Rare targets may share the tables of a `group`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model_stage.config.schema import StrictModel, error_at
from store.types import DAY_MS

PERIOD_MS = {"day": DAY_MS, "week": 7 * DAY_MS, "year": 365 * DAY_MS + DAY_MS // 4}


class RankPosition(StrictModel):
    """Position in the retrieved list counted from the newest behavior, 1, 2, ... up to the last bucket."""

    kind: Literal["rank"]
    buckets: int = Field(default=32, ge=1, le=4096)


class IntervalPosition(StrictModel):
    """Time from the behavior to the request, in equal buckets on a log scale from one minute to `span_days`."""

    kind: Literal["interval"]
    buckets: int = Field(default=16, ge=2, le=4096)
    span_days: float = Field(default=365.0, gt=0.0)


class CalendarPosition(StrictModel):
    """Phase of the time interval within a period: behaviors a whole number of periods ago share a bucket."""

    kind: Literal["calendar"]
    period: Literal["day", "week", "year"] = "week"
    buckets: int = Field(default=7, ge=2, le=512)


class MatchLevelPosition(StrictModel):
    """How far hard search had to climb to find the behavior; the last bucket: it did not find it."""

    kind: Literal["match_level"]
    levels: int = Field(default=4, ge=1, le=16)

    @property
    def buckets(self) -> int:
        """One per level, and one for behaviors that hard search did not find."""
        return self.levels + 1


Position = Annotated[
    RankPosition | IntervalPosition | CalendarPosition | MatchLevelPosition, Field(discriminator="kind")
]


class Target(StrictModel):
    """One objective."""

    name: str = Field(min_length=1)
    """Training reads its labels from the column `label_<name>`."""
    weight: float = Field(default=1.0, gt=0.0)
    """Weight of its loss."""
    group: str | None = None
    """Targets that name the same group share one set of positional tables; None = its own."""
    positions: tuple[Position, ...] = (IntervalPosition(kind="interval"),)
    given: str | None = None
    """Target that must have happened first: p = p(given) p(this | given). The label is still that of every impression,
    0 where the condition did not happen; see `networks.conditional`."""

    @property
    def table_name(self) -> str:
        """Name of the positional tables this target uses."""
        return f"group:{self.group}" if self.group is not None else f"target:{self.name}"


class Targets(StrictModel):
    """The whole file."""

    targets: tuple[Target, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Targets:
        names = self.names
        for at, name in enumerate(names):
            if name in names[:at]:
                raise error_at(("targets", at, "name"), f"{name!r} is declared twice")
        first: dict[str, Target] = {}
        for at, target in enumerate(self.targets):
            other = first.setdefault(target.table_name, target)
            if other.positions != target.positions:
                raise error_at(
                    ("targets", at, "positions"),
                    f"{target.name!r} and {other.name!r} share group {target.group!r} and must have the same positions",
                )
        for target in self.targets:
            self._check_condition(target)
        return self

    def _check_condition(self, target: Target) -> None:
        """Follows a target's conditions to the end; raises ValueError where there is none."""
        chain = [target.name]
        given = target.given
        while given is not None:
            if given not in self.names:
                known = ", ".join(name for name in self.names if name != chain[-1])
                raise ValueError(f"targets: {chain[-1]!r} is given {given!r}, which is no target; there are {known}")
            if given in chain:
                way = " given ".join([*chain[chain.index(given) :], given])
                raise ValueError(f"targets: {given!r} is conditional on itself: {way}")
            chain.append(given)
            given = self.targets[self.names.index(given)].given

    @property
    def names(self) -> tuple[str, ...]:
        """Target names in file order."""
        return tuple(target.name for target in self.targets)

    @property
    def given(self) -> tuple[int | None, ...]:
        """The condition of each target, as a place in `names`."""
        return tuple(None if t.given is None else self.names.index(t.given) for t in self.targets)
