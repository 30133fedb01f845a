"""What the manifest of a store generation says about its content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from store.errors import CorruptGenerationError
from store.types import Vocabulary

if TYPE_CHECKING:
    from store.generation import OpenedGeneration


class StoreMeta(BaseModel):
    """Facts about one store generation; its JSON is the manifest's `meta`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_format: Literal[1] = 1
    """Version of the files of a store generation, `FORMAT.md`."""
    domains: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]
    streams: tuple[tuple[int, int], ...]
    """(domain code, action code) pairs that have at least one behavior, ascending."""
    tree_domains: tuple[str, ...]
    item_fields: tuple[str, ...]
    user_fields: tuple[str, ...]
    taxonomy_fingerprint: str
    num_users: int
    """Users with at least one behavior."""
    num_behaviors: int
    num_unmapped: int
    """Behaviors whose item and category are both unknown."""
    num_categories: int
    num_items: int
    first_ms: int
    """Time of the oldest behavior, milliseconds UTC; 0 when there is none."""
    last_ms: int

    @property
    def vocabulary(self) -> Vocabulary:
        """Names behind the codes."""
        return Vocabulary(domains=self.domains, actions=self.actions, scenes=self.scenes)


def read_meta(generation: OpenedGeneration) -> StoreMeta:
    """Gives the facts a store generation's manifest holds.

    Raises:
        CorruptGenerationError: One is absent, unknown or of another version than this program reads.
    """
    try:
        return StoreMeta.model_validate_json(json.dumps(generation.manifest.meta))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptGenerationError(
            f"{generation.path / 'manifest.json'}: meta.{where}: {first['msg']}; this program reads store format 1: "
            "upgrade it, or run `lookback-store ingest` again"
        ) from exc
