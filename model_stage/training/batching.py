"""Cuts examples into batches: in their order or shuffled, of bounded size, and made by a thread beforehand.

Legend: R requests, P parts of them, N candidates of all requests, B of a batch.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from model_stage.encoding.batch import rows_of_spans
from store.lists import positions_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_stage.training.examples import Examples
    from store.types import I32, I64

V = TypeVar("V")
MAX_BEHAVIORS = 1 << 20
"""Behaviors of whole histories in a batch, at most, but for a single part."""


class Chosen(NamedTuple):
    """Candidates of some requests, as `Examples.take` wants them."""

    requests: I64
    candidates: I64
    candidate_offsets: I64


class Order(Protocol):
    """In which order the requests of examples, or parts of them, come by."""

    @property
    def ends(self) -> I64:
        """Candidates before each part, and of all parts. (P + 1,)."""
        ...

    def chosen(self, start: int, stop: int) -> Chosen:
        """Gives some parts that follow one another."""
        ...


@dataclass(frozen=True, slots=True)
class InOrder:
    """Whole requests as they stand."""

    ends: I64
    """Their `candidate_offsets`."""

    def chosen(self, start: int, stop: int) -> Chosen:
        """Gives some requests that follow one another."""
        first, last = self.ends[start], self.ends[stop]
        return Chosen(np.arange(start, stop), np.arange(first, last), self.ends[start : stop + 1] - first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """Every request cut into random parts, and the parts dealt out at random.

    Memory: 4 bytes a candidate and 32 a part.
    """

    first: I64
    """First candidate of each request. (R,)"""
    places: I32
    """Candidates within their requests, part after part of one request after another. (N,)"""
    offsets: I64
    """Where each part begins in `places`, and the end. (P + 1,)"""
    request: I64
    """Request of each part. (P,)"""
    order: I64
    """Parts as they are dealt. (P,)"""
    ends: I64
    """Candidates before each part as they are dealt, and of all. (P + 1,)"""

    @staticmethod
    def of(candidate_offsets: I64, part_candidates: int, generator: np.random.Generator) -> Shuffled:
        """Draws an order.

        Args:
            candidate_offsets: Candidates of each request. (R + 1,)
            part_candidates: Candidates of a part at most; the parts of a request differ by one at most.
            generator: Source of chance.
        """
        lengths = np.diff(candidate_offsets)
        places = np.empty(int(candidate_offsets[-1]), np.int32)
        for start, length in zip(candidate_offsets.tolist(), lengths.tolist(), strict=False):
            places[start : start + length] = generator.permutation(length)
        parts = -(-lengths // part_candidates)
        request = np.repeat(np.arange(len(lengths)), parts)
        of_all, longer = np.divmod(lengths[request], parts[request])
        sizes = of_all + (positions_within(parts) < longer)
        order = generator.permutation(len(request))
        return Shuffled(
            first=candidate_offsets[:-1],
            places=places,
            offsets=_ends(sizes),
            request=request,
            order=order,
            ends=_ends(sizes[order]),
        )

    def chosen(self, start: int, stop: int) -> Chosen:
        """Gives some parts that were dealt after one another; the candidates of each stand as in its request."""
        parts = self.order[start:stop]
        requests = self.request[parts]
        at, offsets = rows_of_spans(self.offsets, parts)
        part = np.repeat(np.arange(len(parts)), np.diff(offsets))
        candidates = self.first[requests][part] + self.places[at]
        return Chosen(requests, candidates[np.lexsort((candidates, part))], offsets)


def batches(examples: Examples, order: Order, max_candidates: int, max_pairs: int) -> Iterator[Examples]:
    """Cuts examples into batches; memory does not depend on how many there are.

    A batch ends with the part that fills it, or before the part that would give it too many pairs or behaviors of
    whole histories; it has one part at least.

    Args:
        examples: What to cut.
        order: In which order.
        max_candidates: Candidates of a batch, about: its last part may exceed it.
        max_pairs: Pairs of a batch, at most, but for a single part.
    """
    start, ends, pair_offsets = 0, order.ends, examples.requests.pair_offsets
    while start < len(ends) - 1:
        stop = min(int(np.searchsorted(ends, ends[start] + max_candidates)), len(ends) - 1)
        requests, candidates, offsets = order.chosen(start, stop)
        pairs = _ends(pair_offsets[candidates + 1] - pair_offsets[candidates])
        fitting = int(np.searchsorted(pairs[offsets[1:]], max_pairs, side="right"))
        if examples.histories is not None:
            behaviors = examples.histories.lengths[requests].cumsum()
            fitting = min(fitting, int(np.searchsorted(behaviors, MAX_BEHAVIORS, side="right")))
        fitting = max(fitting, 1)
        yield examples.take(requests[:fitting], candidates[: offsets[fitting]], offsets[: fitting + 1])
        start += fitting


def prefetched(source: Iterator[V], ahead: int = 2) -> Iterator[V]:
    """Gives what an iterator gives, in its order and with its error, made by one thread beforehand.

    Args:
        source: Used by that thread alone.
        ahead: How many to make before they are asked for.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, source, end) for _ in range(ahead))
        while (made := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, source, end))
            yield made  # type: ignore[misc]


def _ends(sizes: I64) -> I64:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
