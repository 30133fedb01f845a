"""Kernels: small loops compiled to machine code, for what NumPy would take a hundred calls or copies of a history for.

Kernels work on plain arrays, release the GIL and are checked against a plain twin. `FLAGS` is the one table of what the
compiler may do; a kernel takes one of the five decorators and sets no option itself. Compiled code is kept beside
the source, or where that is read-only in the user's cache folder, and is made anew when its own file changes, not when
a file does that it calls into. With `NUMBA_DISABLE_JIT=1` kernels run as plain Python.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numba
import numpy as np
from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
T = TypeVar("T")

FLAGS: Mapping[str, Mapping[str, object]] = {
    "kernel": {},
    "kernel_no_refcount": {"_nrt": False},
    "kernel_inline": {"_nrt": False, "forceinline": True},
    # No order of summation is kept: `soft_kernels.py` bounds the difference.
    "kernel_fastmath": {"fastmath": {"nnan", "nsz", "reassoc", "contract"}},
    # What is not finite stays so: a network that diverged must say it.
    "kernel_any_order": {"fastmath": {"nsz", "reassoc", "contract"}},
}
"""Options of the compiler by decorator, beside those that all kernels have."""
# `_nrt` is said of each kernel: else its caller would decide.
_COMMON = {"nogil": True, "error_model": "numpy", "_nrt": True}

_log = logging.getLogger(__name__)


class _CompilationLog(event.Listener):
    """Logs once per process that kernels are being compiled, which takes a while."""

    def __init__(self) -> None:
        self._kernels: list[object] = []
        self._has_logged = False

    def watch(self, made: object) -> None:
        """Adds a kernel whose compilation is logged."""
        self._kernels.append(made)

    def on_start(self, event: event.Event) -> None:
        """Is called before any function of the process is compiled, ours or another library's."""
        if not self._has_logged and event.data is not None and event.data["dispatcher"] in self._kernels:
            self._has_logged = True
            _log.warning("compiling kernels: a minute or two, the first time on a machine")

    def on_end(self, event: event.Event) -> None:
        """Does nothing."""


_compilation_log = _CompilationLog()
event.register("numba:compile", _compilation_log)  # type: ignore[no-untyped-call]


def kernel(function: Callable[P, T]) -> Callable[P, T]:
    """Compiles a function at its first call, or reads what an earlier process compiled."""
    return _compile(function, "kernel")


def kernel_no_refcount(function: Callable[P, T]) -> Callable[P, T]:
    """As `kernel`, without reference counts: for a function that neither makes arrays nor returns any.

    A count is an atomic operation whenever an array is sliced or taken out of a tuple: in loops over few rows, most of
    the time.
    """
    return _compile(function, "kernel_no_refcount")


def kernel_inline(function: Callable[P, T]) -> Callable[P, T]:
    """As `kernel_no_refcount`, for a small part of a kernel: it is inlined, so its arrays are not handed over."""
    return _compile(function, "kernel_inline")


def kernel_fastmath(function: Callable[P, T]) -> Callable[P, T]:
    """As `kernel`, with floating-point sums in whatever order is fastest: for sums that only propose."""
    return _compile(function, "kernel_fastmath")


def kernel_any_order(function: Callable[P, T]) -> Callable[P, T]:
    """As `kernel_fastmath`, for sums of which any rounding is right, of numbers that may be infinite or NaN."""
    return _compile(function, "kernel_any_order")


def _compile(function: Callable[P, T], flags: str) -> Callable[P, T]:
    options: dict[str, Any] = {**_COMMON, **FLAGS[flags]}
    try:
        made: Callable[P, T] = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the folder of the source nor any other can be written to
        made = numba.njit(function, **options)
    _compilation_log.watch(made)
    return made


def read_only(array: np.ndarray[Any, Any], dtype: type[np.generic] | None = None) -> np.ndarray[Any, Any]:
    """Gives an array as a read-only view, of another type if asked: kernels are compiled for one kind of array."""
    view = array.view() if dtype is None or array.dtype == dtype else array.astype(dtype)
    view.flags.writeable = False
    return view
