"""How wide the columns of a base must be: settled once for a whole build, by the largest id of every source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from store.fields import VALUE_TYPES
from store.records.rows import width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.base.meta import StoreMeta
    from store.building.spill import SpillPart
    from store.fields import FieldKinds
    from store.types import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Element types of the columns whose width follows from what they hold."""

    item: np.dtype[Any]
    scene: np.dtype[Any]
    category: np.dtype[Any]
    fields: tuple[np.dtype[Any], ...]
    keyed: bool
    """Whether any event has an id."""
    largest: tuple[int, ...]
    """Largest id among items, categories and the values of each side-info field; -1 = none."""


def widths_of(kinds: FieldKinds, vocabulary: Vocabulary, base: StoreMeta | None, parts: Sequence[SpillPart]) -> Widths:
    """Gives the widths that hold every row of a build.

    Args:
        kinds: Side-info fields of the build.
        vocabulary: Its words.
        base: Facts about the old base; None = there is none.
        parts: The spilled rows; their fields are those of the build.
    """
    largest = [-1] * (2 + len(kinds))
    for part in parts:
        found = (part.largest_item, part.largest_category, *part.largest_fields)
        largest = [max(pair) for pair in zip(largest, found, strict=True)]
    if base is not None:
        position = {name: 2 + at for at, (name, _) in enumerate(kinds)}
        at = [0, 1, *(position[name] for name, _ in base.behavior_fields)]
        for number, value in zip(at, base.largest_ids, strict=True):
            largest[number] = max(largest[number], value)
    return Widths(
        item=width_of(max(largest[0], 1 << 16)),  # the format knows 32 and 64 bits only
        scene=np.dtype(np.uint8 if len(vocabulary.scenes) <= 1 << 8 else np.uint16),
        category=width_of(largest[1]),
        fields=tuple(
            width_of(value) if kind == "id" else VALUE_TYPES[kind].dtype
            for (_, kind), value in zip(kinds, largest[2:], strict=True)
        ),
        keyed=any(part.has_keys for part in parts) or (base is not None and base.keyed),
        largest=tuple(largest),
    )
