"""How large a message may be, before anything is made of it: a servicer's method says so itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_MESSAGE_BYTES = 16 * 2**20
"""For any method: 1,000 candidates with 1,000 covered products each fit."""

LARGEST_METADATA_BYTES = 8 * 2**10
"""Of all headers of a call, the token among them; what is larger never reaches a method."""

LARGEST_SMALL_MESSAGE_BYTES = 64 * 2**10
"""For a method that says nothing: a few numbers and words fit."""

M = TypeVar("M", bound="Callable[..., object]")


def takes_up_to(largest_bytes: int) -> Callable[[M], M]:
    """Marks a method of a servicer: a request may have that many bytes, and not only `LARGEST_SMALL_MESSAGE_BYTES`."""

    def mark(method: M) -> M:
        vars(method)["largest_bytes"] = largest_bytes
        return method

    return mark


def largest_bytes_of(method: object) -> int:
    """Gives the largest request that a method of a servicer takes."""
    return int(getattr(method, "largest_bytes", LARGEST_SMALL_MESSAGE_BYTES))
