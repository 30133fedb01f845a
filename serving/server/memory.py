"""Memory of a server: large blocks go back to the system at once, libraries are not searched for garbage."""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
"""Numbers of `mallopt`, malloc.h of glibc."""
_LARGE_BYTES = 8 << 20
"""Less than the messages that are too large, more than what requests work on."""
_ARENAS = 4
_KEPT_BYTES = 32 << 20
"""At the end of a heap."""


def return_large_blocks() -> bool:
    """Tells glibc to map large blocks one by one, and to keep few heaps.

    By itself it raises what it calls large with every large block that is freed, to 32 MiB, and keeps a heap for each
    of many threads: a few messages of 16 MiB at a time then leave hundreds of MiB behind. With that threshold set, it
    would also give back the end of a heap from 128 KiB on, which every request would have to ask for again; so that
    is set, too.

    Returns:
        Whether it was set; False with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES), (_ARENA_MAX, _ARENAS))
    return all(mallopt(option, value) for option, value in wanted)


def freeze_libraries() -> None:
    """Excludes all current objects from garbage collection (gc.freeze); call it before anything that may be closed.

    A full collection walks through every object of every library with all threads standing still: 60 ms in the search
    stage, 140 ms in the model stage. In a process that forks it would also write to every page that its children share.
    """
    gc.collect()
    gc.freeze()
