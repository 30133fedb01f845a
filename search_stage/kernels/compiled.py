"""Small loops compiled to machine code: what NumPy would take a hundred calls, or a copy of the whole history, for.

Kernels work on plain arrays, release the GIL and are checked against `reference.py`, which does the same in loops of
Python. They stand in few modules on purpose: what is compiled is kept beside the source, or where that is read-only in
the user's cache folder, and is made anew when its own file changes, not when a file does that it calls into.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numba
import numpy as np
from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_PROPOSING = {"nnan", "nsz", "reassoc", "contract"}
"""What a compiler may do to a sum whose value only proposes: `soft_kernels.py` bounds the difference."""


_log = logging.getLogger(__name__)


class _Teller(event.Listener):
    """Says once why nothing else happens for a while, when a kernel is compiled that no earlier process left behind."""

    def __init__(self) -> None:
        self._kernels: list[object] = []
        self._has_told = False

    def listen_for(self, kernel: object) -> None:
        """Names a kernel as one to tell of."""
        self._kernels.append(kernel)

    def on_start(self, event: event.Event) -> None:
        """Is called before a function is compiled, ours or another's."""
        if not self._has_told and event.data is not None and event.data["dispatcher"] in self._kernels:
            self._has_told = True
            _log.warning("compiling the kernels of search: a minute or two, the first time on a machine")

    def on_end(self, event: event.Event) -> None:
        """Has nothing to say."""


_teller = _Teller()
event.register("numba:compile", _teller)  # type: ignore[no-untyped-call]


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compiles a function at its first call, or reads what was compiled by an earlier process."""
    return _compile(function, {})


def compiled_uncounted(function: Callable[P, T]) -> Callable[P, T]:
    """As `compiled`, for what makes no arrays and gives none back, which lets it count no references to them.

    To count is an atomic operation whenever an array is sliced or taken out of a tuple: in loops over few rows, most of
    the time.
    """
    return _compile(function, {"_nrt": False})


def compiled_into_callers(function: Callable[P, T]) -> Callable[P, T]:
    """As `compiled_uncounted`, for a small part of a kernel: its arrays are not handed over at each call."""
    return _compile(function, {"_nrt": False, "forceinline": True})


def compiled_to_propose(function: Callable[P, T]) -> Callable[P, T]:
    """As `compiled`, with floating-point sums in whatever order is fastest."""
    return _compile(function, {"fastmath": _PROPOSING})


def _compile(function: Callable[P, T], options: dict[str, Any]) -> Callable[P, T]:
    options = {"nogil": True, "error_model": "numpy", "_nrt": True, **options}  # else a caller would decide on `_nrt`
    try:
        made: Callable[P, T] = numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the folder of the source nor any other can be written to
        made = numba.njit(function, **options)
    _teller.listen_for(made)
    return made


def read_only(array: np.ndarray[Any, Any], dtype: type[np.generic] | None = None) -> np.ndarray[Any, Any]:
    """Gives an array as a read-only view, of another type if asked: kernels are compiled for one kind of array."""
    view = array.view() if dtype is None or array.dtype == dtype else array.astype(dtype)
    view.flags.writeable = False
    return view
