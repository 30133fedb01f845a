"""Checks the whole delta when a process opens it: like all other files it is believed only after it has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from store.delta.checksum import unseal
from store.delta.integrity.page_check import find_head_damage, find_page_damage
from store.delta.integrity.page_layout import IS_FAR
from store.delta.layout import ADVICE, EVENT_KEY_BYTES, META_NAMES
from store.delta.rows import find_row_damage
from store.errors import CorruptGenerationError, CorruptRecordError
from store.files.environment import DATA_FILE, translate

if TYPE_CHECKING:
    from pathlib import Path

    from store.delta.integrity.page_layout import Nodes
    from store.files.environment import Environment

_TRIES = 10
_LONG_KEYS = frozenset({b"offsets"})
_LOW_16 = np.uint64(0xFFFF)

_checked: WeakSet[Environment] = WeakSet()
"""Environments that this process has checked since it opened them."""


def check_head(folder: Path) -> None:
    """Checks what LMDB reads of a delta to open it, if there is one.

    Raises:
        CorruptGenerationError: It is damaged.
        StoreIOError: It cannot be read.
    """
    file = folder / DATA_FILE
    with translate(folder, advice=ADVICE):
        if file.is_file() and file.stat().st_size and (problem := find_head_damage(file)):
            raise CorruptGenerationError(f"{file}: {problem}; {ADVICE}")


def check_delta(environment: Environment) -> None:
    """Checks every page, row and value of a delta, the first time in this process; others may write meanwhile.

    Cost: about a microsecond an event.

    Raises:
        CorruptGenerationError: It is damaged.
        StoreIOError: It cannot be read.
    """
    if environment in _checked:
        return
    problem = find_delta_damage(environment)
    if problem:
        raise CorruptGenerationError(f"{environment.folder / DATA_FILE}: {problem}; {ADVICE}")
    _checked.add(environment)


def find_delta_damage(environment: Environment) -> str | None:
    """Gives the first thing that is wrong with a delta, None when nothing is."""
    file = environment.folder / DATA_FILE
    checks = {b"events": _find_event_damage, b"meta": _find_meta_damage}
    checks |= dict.fromkeys((b"deleted", b"words", b"names", b"offsets"), _find_seal_damage)
    problem = None
    for _ in range(_TRIES):
        with translate(environment.folder, advice=ADVICE), environment.begin() as transaction:
            moment = transaction.id()
            problem = find_page_damage(file, moment, checks, _LONG_KEYS)
        if not problem:
            return None
        if environment.info()["last_txnid"] == moment:
            break  # otherwise a writer may have taken the meta page of this transaction for its next one
    return problem


def _find_event_damage(nodes: Nodes) -> str | None:
    if not (nodes.key_size == EVENT_KEY_BYTES).all():
        return "an event has a key of another length"
    high, low, _ = nodes.keys(EVENT_KEY_BYTES // 8).T
    sequence = (high & ~_LOW_16) | (low & _LOW_16)
    user_keys = (high << np.uint64(48)) | (low >> np.uint64(16))
    if (nodes.low % 16).any() or not nodes.low.all():
        return "an event has another length"
    near = (nodes.flags & IS_FAR) == 0
    far = np.flatnonzero(~near)
    parts = [(near, nodes.even_values(near).view("<u8"))]
    if len(far):  # rows with a hundred side-info fields and more
        parts.append((far, np.frombuffer(b"".join(map(nodes.value, far.tolist())), "<u8")))
    for rows, words in parts:
        if problem := find_row_damage(words, nodes.low[rows], user_keys[rows], sequence[rows]):
            return problem
    return None


def _find_seal_damage(nodes: Nodes, *, with_keys: bool = True) -> str | None:
    try:
        for row in range(len(nodes)):
            unseal(nodes.key(row) if with_keys else b"", nodes.value(row))
    except CorruptRecordError as exc:
        return str(exc)
    return None


def _find_meta_damage(nodes: Nodes) -> str | None:
    if not {nodes.key(row) for row in range(len(nodes))} <= META_NAMES:
        return "it has a number of an unknown name"
    return _find_seal_damage(nodes, with_keys=False)
