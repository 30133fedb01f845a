"""Which soft search a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_stage.soft.base import NumpyKeySearch, ScanKeySearch
from search_stage.soft.clusters import ClusterKeySearch
from search_stage.soft.faiss_gpu import GpuKeySearch
from search_stage.soft.faiss_search import FaissKeySearch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search_stage.config import SoftConfig
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import KeySearch

ENGINES: Mapping[str, Callable[[IndexGeneration], KeySearch]] = {
    "scan": ScanKeySearch,
    "faiss": FaissKeySearch,
    "gpu": GpuKeySearch,
    "numpy": NumpyKeySearch,
}


def key_search_of(index: IndexGeneration, config: SoftConfig) -> KeySearch:
    """Gives the soft search of an index.

    Raises:
        FaissMissingError: The engine is not installed, or has no device.
    """
    exact = ENGINES[config.engine](index)
    if config.approximate_from is None:
        return exact
    return ClusterKeySearch(index, exact, config.approximate_from, config.probe_one_in)
