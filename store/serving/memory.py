"""Memory of a server: large blocks go back to the system as soon as they are freed."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
"""Numbers of `mallopt`, malloc.h of glibc."""
_LARGE_BYTES = 8 << 20
"""Less than the messages that are too large, more than what requests work on."""
_ARENAS = 4


def return_large_blocks() -> bool:
    """Tells glibc to map large blocks one by one, and to keep few heaps.

    By itself it raises what it calls large with every large block that is freed, to 32 MiB, and keeps a heap for each
    of many threads: a few messages of 16 MiB at a time then leave hundreds of MiB behind.

    Returns:
        Whether it was told; False with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_ARENA_MAX, _ARENAS))
