"""The retrieval contract: what ranking asks of search and what search answers, as plain columns.

It stands in `store` because that is the one package both stages may import. In one process these objects are passed
as they are; between processes the stages' `serving` folders map them to and from protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from store.columns import Columns
from store.errors import InputError
from store.fields import NUMBER, ValueColumn, value_type_of
from store.lists import check_offsets
from store.types import NO_ID, check_integer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from store.fields import FieldColumn, IdLists
    from store.types import F32, I32, I64, U8, U16, U64, Vocabulary

NO_LEVEL = 255
"""Match level of a behavior that hard search did not find."""

NO_DECAY = 0
"""Stands for the half-life of a profile in which all behaviors weigh the same."""

SOURCE_HARD = 1
SOURCE_SOFT = 2
SOURCE_RECENT = 4
"""Bits of a retrieved behavior's source: it may have been found by several."""
SOURCE_NAMES = ((SOURCE_HARD, "hard"), (SOURCE_SOFT, "soft"), (SOURCE_RECENT, "recent"))

WHOLE_HISTORY = 2**32 - 1
"""Stands for "all of them" where a number of newest behaviors is asked for."""

MAX_CATEGORIES_ASKED = 1_000
"""Categories whose ancestors may be asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The ads to be scored, as columns of length C."""

    item: U64
    """Ad id, `NO_ID` when the ad has none. (C,)"""
    category: U64
    """Category id; `NO_ID` = the one the store's items table gives the ad, if any. (C,)"""
    covers: U64
    """Products the ads cover, one list after another; an empty list = the one of the items table. (M,)"""
    covers_offsets: I64
    """Where each candidate's list starts and ends in `covers`. (C + 1,)"""
    more_categories: U64 = field(default_factory=lambda: np.empty(0, np.uint64))
    """Further categories each ad is searched under, one list after another. (X,)"""
    more_offsets: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """Where each candidate's list starts and ends in `more_categories`; (C + 1,), or empty when there are none."""

    def __post_init__(self) -> None:
        for name in ("item", "category", "covers", "more_categories"):
            if getattr(self, name).dtype != np.uint64:
                raise InputError(f"candidates.{name}: must be uint64, is {getattr(self, name).dtype}")
        if self.item.shape != self.category.shape or self.item.ndim != 1:
            raise InputError(f"candidates.category: expected shape {self.item.shape}, got {self.category.shape}")
        check_offsets("candidates.covers_offsets", self.covers_offsets, len(self.item), len(self.covers))
        if len(self.more_categories) or len(self.more_offsets):
            check_offsets("candidates.more_offsets", self.more_offsets, len(self.item), len(self.more_categories))

    def __len__(self) -> int:
        return len(self.item)

    @staticmethod
    def by_id(item: U64) -> Candidates:
        """Gives candidates named by id alone: category and products are what the store's items table knows."""
        return Candidates(
            item=item,
            category=np.full(len(item), NO_ID, dtype=np.uint64),
            covers=np.empty(0, dtype=np.uint64),
            covers_offsets=np.zeros(len(item) + 1, dtype=np.int64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """How many behaviors a request wants per candidate at most; None = what the server is configured for."""

    hard: int | None = None
    soft: int | None = None
    recent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One user, one time, and the candidates to retrieve behaviors for."""

    user: int
    as_of_ms: int
    """Milliseconds UTC; no behavior at or after it is used."""
    candidates: Candidates
    top_k: TopK = field(default_factory=TopK)
    newest: int = 0
    """How many of the user's newest behaviors to answer besides, whatever the candidates, for what reads the user as
    one sequence; the server may answer fewer. `WHOLE_HISTORY`: all of them, whatever the limit of the searcher; over
    gRPC the client reads them page by page."""
    with_names: bool = False
    """Also answer names, for reports."""
    behavior_fields: tuple[str, ...] = ()
    """Side-info fields of behaviors to answer; each makes the answer larger by 4 to 9 bytes a behavior."""
    delta_sequence: int | None = None
    """See only live events up to this number, as `SearchResult.delta_sequence` gave it; None = all there are."""

    def __post_init__(self) -> None:
        check_integers(self, ("user", "as_of_ms", "newest"))


def check_integers(request: object, names: Sequence[str]) -> None:
    """Makes fields of a frozen request Python's own integers: numpy's wrap around, and compile kernels anew.

    Raises:
        InputError: One is no integer; names the field.
    """
    for name in names:
        value = getattr(request, name)
        if type(value) is not int:
            object.__setattr__(request, name, check_integer(value, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names as they stood in the input files; the decimal id where there is none."""

    behavior_items: tuple[str, ...]
    """Of each behavior of the union. (U,)"""
    behavior_categories: tuple[str, ...]
    """Of each behavior of the union; empty = unmapped. (U,)"""
    candidates: tuple[str, ...]
    """(C,)"""
    behavior_fields: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Of each answered side-info field of ids: the value of each behavior of the union; empty = missing. (U,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviorColumns(Columns):
    """Retrieved behaviors, each once, oldest first (ties in event order), as columns of length U."""

    item: U64
    category: U64
    """Id of the taxonomy category the behavior was resolved to; `NO_ID` = unmapped. (U,)"""
    timestamp_ms: I64
    domain: U8
    action: U8
    scene: U16


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchStatistics:
    """Counts and ages of matching behaviors per candidate (C), level (L) and stream (S), out of the whole history.

    Level 0 is the ad itself and the products it covers, level 1 its category, level 2 that one's parent, and so on; a
    level above the top of the tree counts 0. A stream is one (domain, action) pair of the store generation. The totals
    count the user's whole history before the as-of time, unmapped behaviors too.
    """

    streams: tuple[tuple[str, str], ...]
    within_ms: I64
    """Ages, ascending, within which matches are counted besides. (E,)"""
    count: I32
    """(C, L, S)"""
    age_ms: I64
    """As-of time less the newest match's time; -1 = no match. (C, L, S)"""
    oldest_age_ms: I64
    """As-of time less the oldest match's time; -1 = no match. (C, L, S)"""
    within: I32
    """Matches no older than each of `within_ms`. (C, L, S, E)"""
    total_count: I32
    """(S,)"""
    total_age_ms: I64
    """-1 = none. (S,)"""
    total_oldest_age_ms: I64
    """-1 = none. (S,)"""
    total_within: I32
    """(S, E)"""
    half_life_ms: I64
    """Of the profiles of a stream: sums of its behaviors' attention vectors, weighted by 2^(-age / half-life). (P,)"""
    similarity: F32
    """Cosine of the candidate's attention vector and each profile; NaN = no index is loaded, or one of the two is zero.
    (C, S, P)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The union of retrieved behaviors and, per candidate, index lists into it.

    Candidate c's behaviors are `index[offsets[c]:offsets[c + 1]]`, oldest first::

        behaviors   b0 b1 b2 b3 b4          U = 5
        offsets     0        3     5        C = 2
        index       0  2  4  1  4           M = 5
        match_level 1  0 255 0 255
        source      1  3  4  1  4
        same_as     0  1
    """

    behaviors: BehaviorColumns
    vocabulary: Vocabulary
    offsets: I64
    """(C + 1,)"""
    index: I32
    """Rows of `behaviors`. (M,)"""
    score: F32
    """Inner product of the attention vectors, higher is better; 0 when no index is loaded. (M,)"""
    match_level: U8
    """Levels hard search had to climb, `NO_LEVEL` when it did not find the behavior. (M,)"""
    source: U8
    """Bits `SOURCE_HARD`, `SOURCE_SOFT`, `SOURCE_RECENT`. (M,)"""
    same_as: I32
    """The first candidate with the same list, scores, levels and sources as this one, itself when there is none before
    it: what depends on nothing else of a candidate need be computed but once. (C,)"""
    statistics: MatchStatistics
    candidate_category: U64
    """The category each candidate was searched under; `NO_ID` = unknown. (C,)"""
    candidate_fields: Mapping[str, FieldColumn] = field(default_factory=lambda: MappingProxyType({}))
    """What the store's items table knows of each candidate: columns of length C, uint64 ids (`NO_ID` = missing),
    float32 numbers (NaN = missing), or lists of ids."""
    user_fields: Mapping[str, FieldColumn] = field(default_factory=lambda: MappingProxyType({}))
    """What the store's users table knows of the user; columns of length 1."""
    num_newest: int = 0
    """The last so many of `behaviors` are the user's newest, without a gap, the same whatever the candidates: as many
    as the request asked for, unless there are fewer or the server's limit is lower."""
    num_behaviors: int
    """Behaviors of the user before the as-of time."""
    num_unknown_items: int = 0
    """Candidates whose item the store does not know."""
    store_generation: str
    index_generation: str
    """Empty when no index is loaded."""
    index_model: str = ""
    """Name of the model generation whose attention vectors the index holds; empty when none is loaded."""
    delta_sequence: int = 0
    """Number of the last live event or deletion that the answer could see; 0 = there never was one."""
    configuration: str = ""
    """How search is configured, as JSON: the keys of search.yaml that change answers. Empty = it did not say."""
    behavior_fields: Mapping[str, ValueColumn] = field(default_factory=lambda: MappingProxyType({}))
    """The side-info that was asked for: columns of length U, uint64 ids (`NO_ID` = missing) or float32 numbers (NaN =
    missing)."""
    names: Names | None = None
    """Only when the request asked for them."""

    def readable_fields(self) -> dict[str, list[str | float | None]]:
        """Gives the side-info that was asked for, for people: names of ids, numbers; None = missing. (U,) each.

        For answers with names.
        """
        assert self.names is not None, "asked for"
        columns: dict[str, list[str | float | None]] = {}
        for name, values in self.behavior_fields.items():
            # Numbers have no names, and a search stage of an earlier version gives none.
            unnamed = values.tolist() if NUMBER.fits(values) else map(str, values.tolist())
            shown = self.names.behavior_fields.get(name, unnamed)
            given = value_type_of(values).given(values)
            columns[name] = [value if there else None for value, there in zip(shown, given, strict=True)]
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Some of a user's behaviors, one after another, the newest first; a page of N."""

    behaviors: BehaviorColumns
    behavior_fields: Mapping[str, ValueColumn]
    """The side-info that was asked for, as in `SearchResult`. (N,) each."""
    vocabulary: Vocabulary
    next_page_token: str
    """Of the next page; empty = this was the last."""
    store_generation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestors:
    """What stands above some categories of the taxonomy."""

    above: IdLists
    """Ids of the categories above each one, the nearest first; none above the top and the unknown. N lists."""
    store_generation: str
