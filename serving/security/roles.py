"""What a caller may be allowed to do: a servicer's method says itself which role it needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


class Role(StrEnum):
    """What a token allows; none of them contains another."""

    RANK = "rank"
    """To have ads ranked, and to search for that."""
    WRITE = "write"
    """To append behaviors and to delete users."""
    READ_HISTORY = "read-history"
    """To see what a user did."""
    ADMIN = "admin"
    """To change what is served, and to see how the service is made (reflection)."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a method asks of its caller."""

    role: Role | None
    """None = any known caller will do."""
    audited: bool = False
    """Whether every call is noted in the audit log."""


M = TypeVar("M", bound="Callable[..., object]")


def for_role(role: Role, *, audited: bool = False) -> Callable[[M], M]:
    """Marks a method of a servicer: only callers with that role may call it. Without a mark nobody may.

    Args:
        role: The role.
        audited: Whether every call is noted in the audit log.
    """

    def mark(method: M) -> M:
        vars(method)["need"] = Need(role, audited)
        return method

    return mark


def need_of(method: object) -> Need | None:
    """Gives what a method of a servicer asks of its caller; None = no caller is let in."""
    need = getattr(method, "need", None)
    return need if isinstance(need, Need) else None
