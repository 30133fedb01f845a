"""What a check of a taxonomy found: findings by severity, and the shape of every tree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a finding."""

    text: str
    """Names the row, category or item."""
    num_events: int | None = None
    """Events concerned; None = not about events, or the events are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Everything of one kind that is wrong, or worth knowing, in one place."""

    kind: str
    """A stable word for programs: `cycle`, `unbridged`."""
    is_error: bool
    """Whether ingest refuses it."""
    message: str
    """What it is and where, without the number of cases."""
    cases: tuple[Case, ...]
    """Every case; the one with the most events first where events are known."""

    @property
    def num_events(self) -> int | None:
        """Events concerned in all cases, None where they are not known."""
        known = [case.num_events for case in self.cases if case.num_events is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeShape:
    """The shape of one domain's tree; categories that a cycle keeps out of it are not counted in `leaf_depths`."""

    domain: str
    """Empty = the ads' tree."""
    num_categories: int
    num_top: int
    """Categories of the top level."""
    leaf_depths: Mapping[int, int]
    """Number of leaves by depth (top level = 1), ascending by depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPlaces:
    """Where the events find their place, each counted once."""

    total: int
    in_tree: int
    """Under a category of the ads' tree: by their item's category or their own."""
    item_only: int
    """Their item is known, but under no category: found by hard search as that item only."""
    unmapped: int
    """Neither item nor category is known: found by soft and recency search only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxonomyReport:
    """The result of a check."""

    trees: tuple[TreeShape, ...]
    """The ads' tree first, then the domains', ascending."""
    num_bridges: int
    num_items: int
    num_items_in_tree: int
    """Known items that hang under a category of the ads' tree."""
    places: EventPlaces | None
    """None = there were no events to look at."""
    findings: tuple[Finding, ...]
    """Errors first."""

    @property
    def num_errors(self) -> int:
        """Cases that ingest refuses."""
        return sum(len(finding.cases) for finding in self.findings if finding.is_error)

    def as_json(self) -> dict[str, object]:
        """Gives the report as a JSON object."""
        total = max(self.places.total, 1) if self.places else 1
        findings = [
            {
                "kind": finding.kind,
                "is_error": finding.is_error,
                "message": finding.message,
                "num_events": finding.num_events,
                "share": None if finding.num_events is None else finding.num_events / total,
                "cases": [asdict(case) for case in finding.cases],
            }
            for finding in self.findings
        ]
        return {**asdict(self), "num_errors": self.num_errors, "findings": findings}
