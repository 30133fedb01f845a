"""What is sent, request by request: drawn from a seed before anything is sent, the same for the same arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from scripts.load.arrivals import send_times
from scripts.load.visitors import visits, weighted, zipf
from serving.wire.columns import put_candidates
from store.retrieval import Candidates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.load.arrivals import Stage
    from scripts.load.visitors import Population
    from store.types import F64, I64, U64

METHODS = {
    "rank": "/lookback.ranking.v1.RankingService/Rank",
    "explain": "/lookback.ranking.v1.RankingService/Explain",
    "search": "/lookback.search.v1.SearchService/Search",
    "history": "/lookback.search.v1.SearchService/GetHistory",
}
OF_RANKING = ("rank", "explain")
LISTS = 64
"""Lists of candidates of each size, to draw from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How requests are to differ."""

    process: str = "poisson"
    methods: Mapping[str, float]
    """Weights of keys of `METHODS`."""
    candidates: Mapping[int, float]
    """Weights of numbers of candidates."""
    user_exponent: float
    """Of Zipf's law."""
    ad_exponent: float
    repeat: float
    """Share of visits by somebody who was there just before."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All requests of a run, as columns of length N."""

    due_s: F64
    """Seconds from the begin, ascending."""
    stage: I64
    method: I64
    """Position in `METHODS`."""
    user: U64
    length: I64
    """Behaviors of the user."""
    size: I64
    """Candidates."""
    tail: I64
    """Position in `tails` of the candidates."""
    tails: Mapping[str, Sequence[bytes]]
    """Of each method: the part of a message that holds candidates."""
    as_of_ms: int

    def __len__(self) -> int:
        return len(self.due_s)

    def share(self, number: int, of: int) -> Plan:
        """Gives every `of`-th request from `number` on: what one of several senders sends."""
        rows = slice(number, None, of)
        columns = ("due_s", "stage", "method", "user", "length", "size", "tail")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def message(self, row: int) -> bytes:
        """Gives a request as it goes over the wire.

        Two messages of protobuf one behind the other are read as one that has the fields of both: candidates, which
        many requests share, are serialised once.
        """
        name = _NAMES[self.method[row]]
        return _head(name, int(self.user[row]), self.as_of_ms) + self.tails[name][self.tail[row]]


_NAMES = tuple(METHODS)


def draw_plan(population: Population, stages: Sequence[Stage], mix: Mix) -> Plan:
    """Draws a run.

    Raises:
        InputError: The stages have no request, or too many.
    """
    draws = [np.random.default_rng([mix.seed, part]) for part in range(4)]
    due_s, stage = send_times(stages, mix.process, draws[0])
    count = len(due_s)
    user = visits(count, len(population.users), mix.user_exponent, mix.repeat, draws[1])
    sizes, names = tuple(mix.candidates), tuple(mix.methods)
    size_at = weighted(mix.candidates.values(), count, draws[2])
    method_at = weighted(mix.methods.values(), count, draws[2])
    lists = [each for size in sizes for each in _lists(population.ads, size, mix.ad_exponent, draws[3])]
    return Plan(
        due_s=due_s,
        stage=stage,
        method=np.array([_NAMES.index(name) for name in names])[method_at],
        user=population.users[user],
        length=population.lengths[user],
        size=np.array(sizes)[size_at],
        tail=LISTS * size_at + draws[2].integers(LISTS, size=count),
        tails={name: [_tail(name, each) for each in lists] for name in names},
        as_of_ms=population.as_of_ms,
    )


def _lists(ads: U64, size: int, exponent: float, draw: np.random.Generator) -> list[U64]:
    """Draws lists of distinct ads, by popularity; where there are too few, ads come again."""
    ranks = zipf(len(ads), exponent)
    found = []
    for _ in range(LISTS):
        drawn = np.unique(ranks(2 * size, draw))
        rest = draw.permutation(np.setdiff1d(np.arange(len(ads)), drawn, assume_unique=True))
        found.append(ads[np.resize(np.concatenate((draw.permutation(drawn), rest)), size)])
    return found


def _head(name: str, user: int, as_of_ms: int) -> bytes:
    if name == "history":
        return search_pb2.GetHistoryRequest(user=user, as_of_ms=as_of_ms).SerializeToString()
    if name == "search":
        return search_pb2.SearchRequest(user=user, as_of_ms=as_of_ms).SerializeToString()
    asked = ranking_pb2.RankRequest(user=user, as_of_ms=as_of_ms)
    return (asked if name == "rank" else ranking_pb2.ExplainRequest(request=asked)).SerializeToString()


def _tail(name: str, ads: U64) -> bytes:
    if name == "history":
        return b""
    candidates = Candidates.by_id(ads)
    if name == "search":
        searched = search_pb2.SearchRequest()
        put_candidates(searched.candidates, candidates)
        return searched.SerializeToString()
    ranked = ranking_pb2.RankRequest()
    put_candidates(ranked.candidates, candidates)
    return (ranked if name == "rank" else ranking_pb2.ExplainRequest(request=ranked)).SerializeToString()
