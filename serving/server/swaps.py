"""Following what is published: on a timer, and when an operator asks."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol

from prometheus_client import Counter, Gauge, Info

from serving.server.method import Service
from serving.slot import write_whole
from serving.wire.admin import ADMIN_SERVICE, AdminServicer
from store.publishing.manifest import created_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from serving.slot import WorkerSlot

_PATIENCE_S = 2.0
"""How long a check under way may go on when the server ends: a large generation may take minutes to open."""


class Reloadable(Protocol):
    """Something that serves published generations and can change to newer ones. Names are by kind of artefact."""

    def published(self) -> dict[str, str]:
        """Gives what `CURRENT` names now; cheap."""
        ...

    def served(self) -> dict[str, str]:
        """Gives what is served now."""
        ...

    def reload(self) -> object:
        """Serves what is published; on any error goes on with what it serves."""
        ...


class Swaps:
    """Makes a server follow `CURRENT`, counts how that went and logs it. Thread-safe.

    What was refused is not opened again before something else is published or an operator asks: to open a generation
    reads all of it.
    """

    def __init__(
        self,
        part: Reloadable,
        registry: CollectorRegistry,
        log: FilteringBoundLogger,
        slot: WorkerSlot | None = None,
        on_reload: Callable[[], object] | None = None,
    ) -> None:
        """Follows for one server.

        Args:
            part: What is to change.
            registry: Where to count.
            log: Gets a line for every change and every refusal.
            slot: Of several workers one after another opens what is new, and notes what it serves.
            on_reload: Called after every reload that was not refused.
        """
        self._part = part
        self._log = log
        self._slot = slot
        self._on_reload = on_reload
        self._lock = threading.Lock()
        self._refused: dict[str, str] | str | None = None
        """What was published when it was last refused, or why even that could not be seen."""
        self._swaps = Counter(
            "lookback_swaps", "Published generations, by what became of them.", ["result"], registry=registry
        )
        for result in ("swapped", "refused"):
            self._swaps.labels(result)
        self._age_s = Gauge(
            "lookback_generation_age_seconds",
            "Time since what is served was published.",
            ["artifact"],
            registry=registry,
        )
        self._behind = Gauge(
            "lookback_behind", "1 while what is published is refused, and what was served before is.", registry=registry
        )
        self._info = Info("lookback_serving", "Names of the generations served.", registry=registry)
        self._note()

    @property
    def admin(self) -> Service:
        """The admin service over this."""
        return Service(name=ADMIN_SERVICE, add=AdminServicer(self.reload, self._part.served).add_to, queued=False)

    def reload(self) -> None:
        """Serves what is published.

        Raises:
            Exception: What is published cannot be served, and why; what was served before goes on being served.
        """
        with self._lock, nullcontext() if self._slot is None else _locked(self._slot.turn):
            self._swap()
            if self._on_reload is not None:
                self._on_reload()

    def check(self) -> None:
        """Serves what is published if it is something new; errors are logged, and refusals counted."""
        seen = self._published()
        if seen == self._part.served():
            self._accept()
        elif seen != self._refused:
            try:
                self.reload()
            except Exception as error:
                self._log.error("reload failed", reason=str(error))

    def _published(self) -> dict[str, str] | str:
        try:
            return self._part.published()
        except Exception as error:
            return str(error)

    def _swap(self) -> None:
        before, published = self._part.served(), self._published()
        try:
            self._part.reload()
        except Exception as error:
            self._refused = published
            self._swaps.labels("refused").inc()
            self._behind.set(1)
            self._log.error("refused", published=published, serving=before, reason=str(error))
            raise
        self._accept()
        served = self._part.served()
        if served != before:
            self._swaps.labels("swapped").inc()
            self._note()
            self._log.info("swapped", serving=served, before=before)

    def _note(self) -> None:
        served = self._part.served()
        self._info.info(served)
        for artifact, name in served.items():
            since_s = created_s(name)
            if since_s is not None:
                self._age_s.labels(artifact).set_function(partial(_age_s, since_s))
        if self._slot is not None:
            write_whole(self._slot.served, json.dumps(served))

    def _accept(self) -> None:
        self._refused = None
        self._behind.set(0)

    @contextmanager
    def watching(self, every_s: float) -> Iterator[None]:
        """Checks for something new every `every_s` seconds for the time of the block, in a thread of its own."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(every_s, ended), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_PATIENCE_S)

    def _watch(self, every_s: float, ended: threading.Event) -> None:
        while not ended.wait(every_s):
            self.check()


def _age_s(since_s: float) -> float:
    return max(0.0, time.time() - since_s)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
