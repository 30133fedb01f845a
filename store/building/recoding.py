"""One vocabulary for several sources of events: the words they use, sorted, and each source's codes among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from store.building.partition import Recode
from store.errors import InputError
from store.events import STREAMS_PER_DOMAIN
from store.types import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from store.building.spill import SpillPart
    from store.types import U16

MAX_CODES = 256
"""Domains, and actions, that one store can tell apart."""
MAX_SCENES = 65_536


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


def used_words(part: SpillPart) -> Vocabulary:
    """Gives the words that the rows of a part use; those of refused rows are left out."""
    return Vocabulary(
        domains=tuple(part.domains[code] for code in sorted({s // STREAMS_PER_DOMAIN for s in part.streams})),
        actions=tuple(part.actions[code] for code in sorted({s % STREAMS_PER_DOMAIN for s in part.streams})),
        scenes=tuple(part.scenes[code] for code in part.used_scenes),
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
