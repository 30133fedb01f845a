"""What the manifest of a store generation says about its content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from store.errors import CorruptGenerationError
from store.fields import FieldKind
from store.types import Vocabulary

if TYPE_CHECKING:
    from store.publishing.generation import OpenedGeneration

STORE_FORMAT: Final = 2
"""Version of the files of a store generation, `FORMAT.md`."""


class StoreMeta(BaseModel):
    """Facts about one store generation; its JSON is the manifest's `meta`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_format: Literal[2] = STORE_FORMAT
    delta_sequence: int = 0
    """Everything in the delta up to this sequence is merged into the base."""
    domains: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    streams: tuple[tuple[int, int], ...]
    """(domain code, action code) pairs that have at least one behavior, ascending."""
    tree_domains: tuple[str, ...]
    behavior_fields: tuple[tuple[str, FieldKind], ...]
    """Side-info fields of behaviors, with their kinds; ascending."""
    item_fields: tuple[str, ...]
    user_fields: tuple[str, ...]
    item_lists: tuple[str, ...] = ()
    """Those of `item_fields` that have lists of ids."""
    user_lists: tuple[str, ...] = ()
    taxonomy_fingerprint: str
    num_users: int
    """Users with at least one behavior."""
    num_behaviors: int
    num_by_domain: tuple[int, ...]
    """Behaviors of each domain code."""
    num_unmapped: int
    """Behaviors whose item and category are both unknown."""
    num_categories: int
    num_items: int
    first_ms: int
    """Time of the oldest behavior, milliseconds UTC; 0 when there is none."""
    last_ms: int
    keyed: bool
    """Whether any behavior has an event id."""
    largest_ids: tuple[int, ...]
    """Largest id among items, categories and the values of each side-info field; -1 = none. Settles the widths."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names behind the codes."""
        return Vocabulary(domains=self.domains, actions=self.actions, scenes=self.scenes)


def read_meta(generation: OpenedGeneration) -> StoreMeta:
    """Gives the facts a store generation's manifest holds.

    Raises:
        CorruptGenerationError: One is absent, unknown or of another version than this program reads.
    """
    found = generation.manifest.meta.get("store_format")
    where = generation.path / "manifest.json"
    if found != STORE_FORMAT:
        raise CorruptGenerationError(
            f"{where}: store format {found}, this program reads {STORE_FORMAT}: use the program that wrote it, or run "
            "`lookback-store ingest --replace` with the dataset"
        )
    try:
        return StoreMeta.model_validate_json(json.dumps(generation.manifest.meta))
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CorruptGenerationError(
            f"{where}: meta.{field}: {first['msg']}; run `lookback-store ingest --replace` with the dataset"
        ) from exc
