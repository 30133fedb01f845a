"""Search: picks, out of everything a user ever did, the behaviors that matter for each candidate ad."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from search_stage.config import SearchConfig
from search_stage.errors import (
    ConfigError,
    CorruptIndexError,
    ExportError,
    FaissMissingError,
    IndexCheckError,
    IndexMismatchError,
    SearchError,
    UnusableIndexError,
)

if TYPE_CHECKING:
    from search_stage.index.build import BuildOptions, IndexReport, build_index
    from search_stage.index.generation import IndexGeneration
    from search_stage.searcher import Searcher

__all__ = [
    "BuildOptions",
    "ConfigError",
    "CorruptIndexError",
    "ExportError",
    "FaissMissingError",
    "IndexCheckError",
    "IndexGeneration",
    "IndexMismatchError",
    "IndexReport",
    "SearchConfig",
    "SearchError",
    "Searcher",
    "UnusableIndexError",
    "build_index",
]

_HOMES = {
    "BuildOptions": "search_stage.index.build",
    "IndexGeneration": "search_stage.index.generation",
    "IndexReport": "search_stage.index.build",
    "Searcher": "search_stage.searcher",
    "build_index": "search_stage.index.build",
}
"""What is imported when it is first asked for: it brings the compiler of the kernels with it."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
