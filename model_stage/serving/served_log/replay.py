"""Scores a served log again, from the artefacts that served it and the live events that were seen, and compares.

What can be asked again is what is still there: a request needs its bundle, its store and its index generation, and the
live events up to its sequence number. The store keeps an event as long as a kept generation has not merged it, so that
all of them are there while the generation is. A user who was deleted since is gone, from every number on.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass
from dataclasses import replace as replace_field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from model_stage.bundle import load_bundle
from model_stage.errors import SearchUnavailableError
from model_stage.ranking.ablation import no_history
from model_stage.ranking.ranker import Ranker
from model_stage.serving.served_log.reader import read_columns, read_requests
from serving.wire import search as wire
from store.errors import LookbackError
from store.lists import Lists
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from model_stage.serving.served_log.reader import Logged
    from model_stage.types import RankResult, Retriever
    from serving.deadline import Deadline
    from store.behavior_store import BehaviorStore
    from store.retrieval import Ancestors, SearchRequest, SearchResult
    from store.types import F32, U64

    OpenSearch = Callable[[str, str], AbstractContextManager[tuple[BehaviorStore, Retriever]]]
    """Opens a store and an index generation by name, empty = no index."""


class Artefacts(NamedTuple):
    """What answered a request; empty names for those that took no part."""

    bundle: str
    store_generation: str
    index_generation: str


_COLUMNS = Artefacts._fields
_WORDS = ("domains", "actions", "scenes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A request that is answered otherwise now."""

    request_id: str
    what: tuple[str, ...]
    """Names of what differs: parts of the answer of search, or of the ranking."""
    largest: float
    """Largest difference of a probability; infinite where there are others to compare."""


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What came of a replay."""

    num_same: int = 0
    differences: list[Difference] = field(default_factory=list)
    unreachable: Counter[str] = field(default_factory=Counter)
    """Requests that cannot be asked again, by why."""
    num_live: int = 0
    """Requests, of those asked again, that had seen live events which their generation has not merged."""

    @property
    def num_replayed(self) -> int:
        """Requests that were asked again."""
        return self.num_same + len(self.differences)

    def add(self, other: ReplayReport) -> None:
        """Adds what came of other requests."""
        self.num_same += other.num_same
        self.differences += other.differences
        self.unreachable += other.unreachable
        self.num_live += other.num_live


def replay(
    files: Sequence[Path], bundle_root: Path, open_search: OpenSearch, on_request: Callable[[], object] = lambda: None
) -> ReplayReport:
    """Asks every request of some files again.

    Args:
        files: Of requests, as `request_files` gives them.
        bundle_root: Root of the bundles that served.
        open_search: Opens what search served.
        on_request: Called after each request.

    Raises:
        InputError: A file is none of a served log.
    """
    report = ReplayReport()
    rows: dict[Artefacts, dict[Path, list[int]]] = {}
    for file in files:
        names = read_columns(file, _COLUMNS).to_pylist()
        for at, row in enumerate(names):
            rows.setdefault(Artefacts(**row), {}).setdefault(file, []).append(at)
    for artefacts, by_file in sorted(rows.items()):
        _replay_of(artefacts, by_file, bundle_root, open_search, report, on_request)
    return report


def _replay_of(
    artefacts: Artefacts,
    by_file: Mapping[Path, list[int]],
    bundle_root: Path,
    open_search: OpenSearch,
    report: ReplayReport,
    on_request: Callable[[], object],
) -> None:
    """Asks what the same artefacts answered; each is opened once."""
    with ExitStack() as stack:
        try:
            bundle = load_bundle(bundle_root, artefacts.bundle)
            if artefacts.store_generation:
                asked = stack.enter_context(open_search(artefacts.store_generation, artefacts.index_generation))
                again = _Again(Ranker(bundle, asked[1]), asked[0])
            else:
                again = _Again(Ranker(bundle, _NoSearch()), None)
        except LookbackError as error:
            report.unreachable[str(error)] += sum(map(len, by_file.values()))
            return
        for file, rows in by_file.items():
            for logged in read_requests(file, among=rows):
                again.ask(logged, report)
                on_request()


class _NoSearch:
    """Stands for the search stage where answers were degraded."""

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        raise SearchUnavailableError("search did not answer")

    def ancestors(self, categories: U64, deadline: Deadline | None = None, request_id: str = "") -> Ancestors:
        raise SearchUnavailableError("search did not answer")


class _Again:
    """Asks requests again, of one bundle and one pair of generations."""

    def __init__(self, ranker: Ranker, store: BehaviorStore | None) -> None:
        self._ranker = ranker
        self._store = store
        self._merged = 0
        if store is not None:
            with store.snapshot() as snapshot:
                self._merged = snapshot.meta.delta_sequence

    def ask(self, logged: Logged, report: ReplayReport) -> None:
        """Asks one request again and notes what came of it."""
        request = logged.request
        if logged.ancestors_reason:
            report.unreachable["search did not say then what is above some categories"] += 1
            return
        if self._was_deleted_since(request.user, logged.delta_sequence):
            report.unreachable["the user was deleted since"] += 1
            return
        try:
            if self._store is None:
                found = no_history(request)
            else:
                found = self._ranker.retrieve(request, delta_sequence=logged.delta_sequence)
            result = self._ranker.score(request, found, logged.degraded_reason)
        except LookbackError as error:
            report.differences.append(Difference(request_id=logged.request_id, what=(str(error),), largest=inf))
            return
        what = [*_differences_of_search(logged, found), *_differences_of_result(logged, result)]
        if what:
            largest = _largest_difference(logged.probability, result.probability)
            report.differences.append(Difference(request_id=logged.request_id, what=tuple(what), largest=largest))
        else:
            report.num_same += 1
        report.num_live += logged.delta_sequence > self._merged

    def _was_deleted_since(self, user: int, sequence: int) -> bool:
        if self._store is None:
            return False
        with self._store.snapshot() as snapshot:
            tombstone = None if snapshot.delta is None else snapshot.delta.tombstone(user)
            return tombstone is not None and tombstone.sequence > sequence


def _differences_of_search(logged: Logged, found: SearchResult) -> list[str]:
    again = wire.result_to_proto(found).SerializeToString() if logged.found_bytes else b""
    if again == logged.found_bytes:
        return []
    before, now = logged.found, wire.result_from_bytes(again, len(logged.num_retrieved))
    # Words that only later events use stand behind those that there were: no code means anything else.
    words = Vocabulary(
        **{name: getattr(now.vocabulary, name)[: len(getattr(before.vocabulary, name))] for name in _WORDS}
    )
    return differing_fields(before, replace_field(now, vocabulary=words))


def _differences_of_result(logged: Logged, result: RankResult) -> list[str]:
    pairs = {
        "targets": (logged.targets, result.targets),
        "probability": (logged.probability, result.probability),
        "num_retrieved": (logged.num_retrieved, result.num_retrieved),
        "num_behaviors": (logged.num_behaviors, result.num_behaviors),
    }
    return [name for name, (before, now) in pairs.items() if not _same(before, now)]


def differing_fields(before: object, now: object, where: str = "") -> list[str]:
    """Gives the names of the fields in which two dataclasses of one type differ, arrays to the bit."""
    names: list[str] = []
    for each in fields(before):  # type: ignore[arg-type]
        left, right, name = getattr(before, each.name), getattr(now, each.name), f"{where}{each.name}"
        if is_dataclass(left) and is_dataclass(right) and not isinstance(left, Lists):
            names += differing_fields(left, right, f"{name}.")
        elif isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
            names += [f"{name}[{key!r}]" for key in left if not _same(left[key], right[key])]
        elif not _same(left, right):
            names.append(name)
    return names


def _same(left: object, right: object) -> bool:
    if isinstance(left, Lists) and isinstance(right, Lists):
        return _same(left.values, right.values) and _same(left.offsets, right.offsets)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
    return left == right


def _largest_difference(before: F32, now: F32) -> float:
    if before.shape != now.shape:
        return inf
    return float(np.abs(before.astype(np.float64) - now).max(initial=0.0))
