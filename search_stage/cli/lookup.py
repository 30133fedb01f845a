"""Users and items as a person names them: by id, or by the name that the input gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.reading.snapshot import Snapshot
    from store.types import NameKind

_SHOWN = 5


def find_user(snapshot: Snapshot, text: str) -> int:
    """Gives the id of a user; an id or name that the store does not know is an id all the same.

    Raises:
        InputError: It is no id, or the name of several users.
    """
    return _find(snapshot, "user", "user", text, lambda user: snapshot.user(user).columns.num_behaviors > 0)


def find_candidate(snapshot: Snapshot, text: str) -> int:
    """Gives the id of an ad; an id or name that the store does not know is an id all the same.

    Raises:
        InputError: It is no id, or the name of several items.
    """
    taxonomy = snapshot.taxonomy

    def is_known(item: int) -> bool:
        return int(taxonomy.item_node(np.array([item], np.uint64))[0]) < taxonomy.unmapped

    return _find(snapshot, "item", "candidate", text, is_known)


def _find(snapshot: Snapshot, kind: NameKind, field: str, text: str, is_known: Callable[[int], bool]) -> int:
    key = parse_id(text, field)
    if is_known(key):
        return key
    found = [named for named, name in snapshot.names(kind) if name == text]
    if len(found) > 1:
        shown = ", ".join(map(str, found[:_SHOWN])) + (" ..." if len(found) > _SHOWN else "")
        raise InputError(f"{field}: {len(found)} have the name {text!r}; give one of their ids: {shown}")
    return found[0] if found else key
