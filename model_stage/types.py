"""Requests and results of ranking, as plain columns. Imports only the contract in `store`."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from store.retrieval import SearchRequest, check_integers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.deadline import Deadline
    from store.fields import FieldColumn
    from store.retrieval import Ancestors, Candidates, SearchResult
    from store.types import F32, U32, U64

MAX_CANDIDATES = 1000


class Retriever(Protocol):
    """Answers search requests: the in-process `Searcher`, or the gRPC client of the search stage."""

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        """Retrieves behaviors for the candidates of one user.

        Thread-safe; changes nothing. Unknown users, items and categories are normal answers.

        Raises:
            SearchUnavailableError: It cannot answer within the deadline.
        """
        ...

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        """Gives the ancestors of some categories, 1 to `MAX_CATEGORIES_ASKED` of them.

        Thread-safe; changes nothing. Unknown categories are normal answers.

        Raises:
            SearchUnavailableError: It cannot answer within the deadline.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    """One user, one time and 1 to 1,000 candidates to score."""

    user: int
    as_of_ms: int
    """Milliseconds UTC; no behavior at or after it is used."""
    candidates: Candidates
    targets: tuple[str, ...] = ()
    """Targets to answer; empty = all of the bundle's."""
    candidate_fields: Mapping[str, FieldColumn] = field(default_factory=lambda: MappingProxyType({}))
    """Candidate fields by name, (C,): uint64 ids (`NO_ID` = missing), float32 numbers (NaN = missing) or lists of ids
    (empty = missing, at most 256 each). A missing value falls back to what the store's items table knows."""
    user_fields: Mapping[str, FieldColumn] = field(default_factory=lambda: MappingProxyType({}))
    """User fields, (1,)."""
    context_fields: Mapping[str, FieldColumn] = field(default_factory=lambda: MappingProxyType({}))
    """Context fields, (1,)."""
    experiment: str = ""
    """Name of the experiment that the request belongs to; empty = none. Changes no score."""

    def __post_init__(self) -> None:
        check_integers(self, ("user", "as_of_ms"))

    def query(
        self,
        *,
        newest: int = 0,
        with_names: bool = False,
        behavior_fields: tuple[str, ...] = (),
        delta_sequence: int | None = None,
    ) -> SearchRequest:
        """Gives the search request for this ranking request; the arguments are its fields."""
        return SearchRequest(
            user=self.user,
            as_of_ms=self.as_of_ms,
            candidates=self.candidates,
            newest=newest,
            with_names=with_names,
            behavior_fields=behavior_fields,
            delta_sequence=delta_sequence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The artefacts that made an answer; empty strings for those that took no part."""

    bundle: str
    store_generation: str = ""
    index_generation: str = ""
    index_model: str = ""
    """Name of the model generation whose attention vectors the index holds."""
    delta_sequence: int = 0
    """Number of the last live event or deletion that search could see; 0 = there never was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResult:
    """A probability per candidate and target."""

    targets: tuple[str, ...]
    probability: F32
    """(C, T), 0 to 1."""
    num_retrieved: U32
    """Behaviors retrieved per candidate. (C,)"""
    num_behaviors: int
    degraded: bool
    """True when the scores were made without the user's history."""
    degraded_reason: str
    """Why: a word of `model_stage.errors.Degraded`, a colon and an explanation; empty when not degraded."""
    versions: Versions
    ancestors_reason: str = ""
    """Why categories that the bundle lacks count as unknown, when their ancestors could not be asked for."""
    missing: tuple[str, ...] = ()
    """What the bundle learned from and this request lacks: fields that neither the request nor the store gives for any
    candidate, and statistics that search does not answer."""
    search_differences: tuple[str, ...] = ()
    """In what search is configured otherwise than where the bundle was trained, key by key."""

    @property
    def degraded_kind(self) -> str:
        """Why it is degraded, in one word; empty when it is not."""
        return self.degraded_reason.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A ranking and what it was made of."""

    result: RankResult
    found: SearchResult
    """What was retrieved; nothing of the user where the ranking is degraded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedBehavior:
    """One retrieved behavior and what it weighs."""

    item: int
    item_name: str
    category: int
    category_name: str
    timestamp_ms: int
    domain: str
    action: str
    match_level: int
    source: int
    score: float
    scene: str
    side_info: Mapping[str, str | float | None]
    """Values of the fields of behaviors that the schema declares: names of ids, numbers; None = missing."""
    attention: tuple[float, ...]
    """Weight per target; over the behaviors of the candidate they sum to 1, less what a network gives to anything else;
    without a softmax (presets `hstu` and `sdim`) they may be any number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one part of the input adds to the logit: the logit less the one without the part, all else being equal.

    Parts act together in the network: the contributions need not sum to anything.
    """

    part: str
    """`behaviors`, `statistics`, or a kind of field: see `model_stage.ranking.ablation`."""
    logit: tuple[float, ...]
    """Per target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainResult:
    """The behaviors behind one candidate's probabilities, and what each part of the input adds."""

    candidate_name: str
    targets: tuple[str, ...]
    probability: tuple[float, ...]
    logit: tuple[float, ...]
    """What the network says before the calibration; empty when a service of an earlier version answered."""
    contributions: tuple[Contribution, ...]
    behaviors: tuple[ExplainedBehavior, ...]
    """Oldest first."""
    versions: Versions
    ancestors_reason: str = ""
    """As of `RankResult`."""
    missing: tuple[str, ...] = ()
    """As of `RankResult`."""
    search_differences: tuple[str, ...] = ()
    """As of `RankResult`."""

    @property
    def attention_sums(self) -> tuple[float, ...]:
        """The weights of all behaviors together, per target: 1, or less where the network also attends elsewhere."""
        return tuple(sum(b.attention[at] for b in self.behaviors) for at in range(len(self.targets)))
