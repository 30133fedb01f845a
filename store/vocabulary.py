"""The words of several sources of events as one vocabulary, and each source's codes among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.events import STREAMS_PER_DOMAIN
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from store.events import EventRows
    from store.types import U16

MAX_CODES = 256
"""Domains, actions, and side-info fields of behaviors, that one store can tell apart."""
MAX_SCENES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Recode:
    """Codes of one source as codes of the build."""

    stream: U16
    """By the source's stream, (65536,)."""
    scene: U16
    """By the source's scene code."""

    def apply(self, rows: EventRows) -> EventRows:
        """Gives the rows with the build's codes."""
        return replace(rows, stream=self.stream[rows.stream], scene=self.scene[rows.scene])


def join_vocabularies(vocabularies: Iterable[Vocabulary]) -> Vocabulary:
    """Gives every word of several vocabularies once, sorted: so that equal events give equal stores.

    Raises:
        InputError: There are more than a code can tell apart.
    """
    sources = list(vocabularies)

    def words(kind: str, limit: int) -> tuple[str, ...]:
        joined = sorted({word for source in sources for word in getattr(source, f"{kind}s")})
        if len(joined) > limit:
            raise InputError(f"more than {limit} distinct {kind}s: is {kind} the right column?")
        return tuple(joined)

    return Vocabulary(
        domains=words("domain", MAX_CODES), actions=words("action", MAX_CODES), scenes=words("scene", MAX_SCENES)
    )


def extend_vocabulary(own: Vocabulary, more: Vocabulary) -> Vocabulary:
    """Gives a vocabulary with the words of another behind its own, none twice: its own codes stay what they are."""
    return Vocabulary(
        domains=tuple(dict.fromkeys((*own.domains, *more.domains))),
        actions=tuple(dict.fromkeys((*own.actions, *more.actions))),
        scenes=tuple(dict.fromkeys((*own.scenes, *more.scenes))),
    )


def recode(source: Vocabulary, target: Vocabulary) -> Recode:
    """Gives the codes of one vocabulary as those of another; words that are not in it become code 0."""
    domain, action = _positions(source.domains, target.domains), _positions(source.actions, target.actions)
    stream = np.zeros(STREAMS_PER_DOMAIN * STREAMS_PER_DOMAIN, np.uint16)
    for code, position in enumerate(domain.tolist()):
        start = code * STREAMS_PER_DOMAIN
        stream[start : start + len(action)] = position * STREAMS_PER_DOMAIN + action
    return Recode(stream=stream, scene=_positions(source.scenes, target.scenes))


def _positions(source: Sequence[str], target: Sequence[str]) -> U16:
    position = {word: at for at, word in enumerate(target)}
    return np.array([position.get(word, 0) for word in source], np.uint16)
