"""The steps of the daily job, in order; each finds out by itself whether it is done already.

    ingest -> index -> train -> gate -> publish -> verify -> remove what is old

What is served is right at every moment: store and index are published whole and keep the attention table, so the bundle
that is served goes with both; a new bundle is published only behind the gate, and taken back where it does not answer.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from model_stage.bundle import KIND
from model_stage.cli.search import example_folder
from model_stage.errors import ConfigError
from model_stage.training.example_folder import content_digest
from model_stage.training.pipeline import Recipe, train_bundle
from scripts.daily.gate import ask_gate
from scripts.daily.memory import Memory
from scripts.daily.publish import copy_bundle, go_back, remove_old, verify
from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from search_stage.index.build import BuildOptions
from store import BehaviorStore, ingest, rebuild
from store.errors import GenerationError, LookbackError, MissingGenerationError
from store.publishing.generation import current_name
from store.publishing.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scripts.daily.config import DailyConfig
    from store.reading.snapshot import Snapshot

Outcome = Literal["published", "nothing new", "refused"]
_MEMORY = "daily.json"
_LOCK = "daily.lock"


@dataclass(slots=True)
class Summary:
    """What a run did."""

    outcome: Outcome = "nothing new"
    reasons: list[str] = field(default_factory=list)
    """Why a candidate was refused."""
    store: str = ""
    index: str = ""
    bundle: str = ""
    """The names of what is served at the end."""
    gate: dict[str, Any] | None = None
    removed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the steps that had something to do."""


class DailyJob:
    """One run. Nothing but one run at a time changes `work`: a second one is refused.

    Args:
        job: What to do.
        on_step: Called with the name of each step that has something to do.
    """

    def __init__(self, job: DailyConfig, on_step: Callable[[str], object] = lambda step: None) -> None:
        self._job, self._on_step = job, on_step
        self._file, self._candidates = job.work / _MEMORY, job.work / "candidates"
        self._memory = Memory()
        self._summary = Summary()

    def run(self) -> Summary:
        """Does what is not done yet.

        Raises:
            LookbackError: The operator must act; what was served is served still.
        """
        job = self._job
        job.work.mkdir(parents=True, exist_ok=True)
        with FileLock(job.work / _LOCK, "run the daily job"):
            self._memory = Memory.read(self._file)
            for root, what in ((job.bundles, "bundles"), (job.attention, "attention")):
                _published(root, what)
            self._take_in()
            with BehaviorStore.open(job.store) as store:
                self._index(store)
                with store.snapshot() as snapshot:
                    index = IndexGeneration.open(job.index)
                    searcher = Searcher(store, index, SearchConfig.load(job.config))
                    self._bundle(snapshot, searcher)
            self._summary.store, self._summary.index = (
                current_name(job.store, "store"),
                current_name(job.index, "index"),
            )
            self._summary.bundle = current_name(job.bundles, KIND)
        return self._summary

    def _take_in(self) -> None:
        """Merges the new behaviors, or the live ones, into the next generation of the store."""
        job = self._job
        if job.incoming is None:
            with BehaviorStore.open(job.store) as store, store.snapshot() as snapshot:
                new = snapshot.delta_sequence > snapshot.meta.delta_sequence
            if new:
                with self._step("merge"):
                    rebuild(job.store, keep=job.keep)
            return
        digest = _digest_of(job.incoming)
        if digest == self._memory.ingested:
            return
        with self._step("ingest"):
            ingest(job.incoming, job.store, keep=job.keep)
        self._remember(ingested=digest)

    def _index(self, store: BehaviorStore) -> None:
        """Builds the index of the kept attention table for the store that is served now."""
        model, root = current_name(self._job.attention, KIND), self._job.index
        try:
            index = IndexGeneration.open(root)
            index.check_model(model)
            with store.snapshot() as snapshot:
                index.check_store(snapshot)
        except LookbackError:
            with self._step("index"):
                build_index(self._job.attention, store, root, BuildOptions(keep=self._job.keep))

    def _bundle(self, snapshot: Snapshot, searcher: Searcher) -> None:
        """Trains a candidate, asks the gate, and publishes it."""
        job, key = self._job, self._key(snapshot)
        if self._memory.key != key:
            self._remember(key=key, candidate="", decision=None, before="", published="", verified=False)
        if not self._memory.candidate or not _there(self._candidates, self._memory.candidate):
            with self._step("train"):
                self._train(snapshot, searcher)
        if self._memory.decision is None:
            with self._step("gate"):
                examples = example_folder(job.work / "examples", searcher, job.index)
                assert examples is not None
                self._remember(decision=ask_gate(job, self._candidates, snapshot, searcher, examples))
        decision = self._memory.decision
        assert decision is not None
        self._summary.gate = decision
        if not decision["passed"]:
            self._summary.outcome, self._summary.reasons = "refused", decision["reasons"]
            return
        if self._memory.verified:
            return
        self._publish(searcher)
        self._summary.outcome = "published"

    def _train(self, snapshot: Snapshot, searcher: Searcher) -> None:
        job = self._job
        trained = train_bundle(
            Recipe.load(job.config),
            job.dataset,
            snapshot,
            searcher,
            self._candidates,
            attention_from=job.attention,
            examples=example_folder(job.work / "examples", searcher, job.index),
        )
        self._remember(candidate=trained.name)

    def _publish(self, searcher: Searcher) -> None:
        job, memory = self._job, self._memory
        if not memory.before:
            # First of all: without it nobody could go back.
            self._remember(before=current_name(job.bundles, KIND))
        if not memory.published:
            with self._step("publish"):
                if current_name(job.bundles, KIND) != memory.before:
                    # A run was killed between publishing and remembering: that bundle was never verified.
                    go_back(job, memory.before)
                self._remember(published=copy_bundle(self._candidates, memory.candidate, job.bundles))
        with self._step("verify"):
            try:
                verify(job, self._candidates, memory.candidate, memory.published, searcher)
            except LookbackError:
                go_back(job, memory.before)
                self._remember(published="")
                raise
            self._remember(verified=True)
        self._summary.removed = remove_old(job)

    def _key(self, snapshot: Snapshot) -> str:
        """Gives a digest of what a candidate is made of."""
        job = self._job
        parts = [
            _digest_of(job.dataset),
            _digest_of(job.config),
            snapshot.generation,
            current_name(job.attention, KIND),
        ]
        return content_digest(parts)

    def _remember(self, **changes: Any) -> None:  # noqa: ANN401 (values of fields)
        for name, value in changes.items():
            setattr(self._memory, name, value)
        self._memory.write(self._file)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._on_step(name)
        started_s = time.monotonic()
        yield
        self._summary.seconds[name] = round(time.monotonic() - started_s, 2)


def _published(root: Path, what: str) -> None:
    try:
        current_name(root, KIND)
    except MissingGenerationError as error:
        raise ConfigError(
            f"{what}: {root} has no published bundle; `python -m scripts.pipeline` makes everything the first time"
        ) from error


def _there(root: Path, name: str) -> bool:
    try:
        current = current_name(root, KIND)
    except GenerationError:
        return False
    return current == name


def _digest_of(folder: Path) -> str:
    """Gives a digest of the files of a folder, by name and content.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as stream:
            digest.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32]
