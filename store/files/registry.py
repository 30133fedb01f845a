"""Resources that a process may open only once: shared, and closed when the last holder is gone."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Closable(Protocol):
    """What is open."""

    def close(self) -> None:
        """Closes it; in a child process: forgets it and leaves the parent's as it is. Twice does nothing."""


Raw = TypeVar("Raw", bound=Closable)
Holder = TypeVar("Holder")


@dataclass(slots=True, kw_only=True)
class _Opened(Generic[Raw, Holder]):
    raw: Raw
    identity: Hashable
    process: int
    holder: Callable[[], Holder | None]
    """Gives the object that all users share, None when it is gone."""


class Registry(Generic[Raw, Holder]):
    """What is open in this process, by name. Thread-safe.

    A thing closes when its holder is gone. But a finalizer may run in any thread at any moment, also in one that has
    the lock, and another thread may want the thing again before the finalizer has come far. So a finalizer only notes
    what was dropped; the thread that has the lock closes it, and until then it is listed and may get a new holder.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[str, _Opened[Raw, Holder]] = {}
        self._dropped: deque[tuple[str, _Opened[Raw, Holder]]] = deque()
        os.register_at_fork(after_in_child=self._after_fork)

    def get(
        self, name: str, identity: Callable[[], Hashable], open_raw: Callable[[], Raw], hold: Callable[[Raw], Holder]
    ) -> Holder:
        """Gives the holder of a thing, and opens the thing if it is not open.

        Args:
            name: Of the thing.
            identity: Tells what the name stands for now. If that is not what is open, another one is opened.
            open_raw: Opens it. Its errors pass.
            hold: Makes an object to hold it, which can be referred to weakly.
        """
        try:
            with self._lock:
                opened = self._find(name, identity())
                holder = None if opened is None else opened.holder()
                if opened is None:
                    raw = open_raw()
                    opened = _Opened(raw=raw, identity=identity(), process=os.getpid(), holder=_no_holder)
                    self._opened[name] = opened
                if holder is None:
                    holder = hold(opened.raw)
                    opened.holder = weakref.ref(holder)
                    weakref.finalize(holder, self._drop, name, opened).atexit = False
                return holder
        finally:
            self._close_dropped()

    def _find(self, name: str, identity: Hashable) -> _Opened[Raw, Holder] | None:
        opened = self._opened.get(name)
        if opened is None:
            return None
        if opened.process != os.getpid():
            opened.raw.close()
        elif opened.identity == identity:
            return opened
        del self._opened[name]
        return None

    def _drop(self, name: str, opened: _Opened[Raw, Holder]) -> None:
        self._dropped.append((name, opened))
        self._close_dropped()

    def _close_dropped(self) -> None:
        # A thread that finds the lock taken leaves the work to its holder, which looks here again after releasing it.
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                while self._dropped:
                    name, opened = self._dropped.popleft()
                    if opened.holder() is None:
                        opened.raw.close()
                        if self._opened.get(name) is opened:
                            del self._opened[name]
            finally:
                self._lock.release()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._dropped.clear()


def _no_holder() -> None:
    return None
