"""Every key scored in plain NumPy: what the other engines are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_stage.soft.base import nearest_of_all

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import Keys
    from store.types import F32, U64


class Engine:
    """Searches by definition. Thread-safe."""

    def __init__(self, index: IndexGeneration) -> None:
        self._index = index

    def nearest(self, queries: F32, keys: Keys, top_k: int) -> U64:
        """See `KeySearch`."""
        return nearest_of_all(self._index, queries, keys, top_k)
