"""Behaviors on disk: the taxonomy, the generations, and one user's whole past in one read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from store.base.tables import CoverTable, FieldTable
from store.behavior_store import BehaviorStore, Snapshot
from store.dataset.json_rows import parse_rows
from store.delta.batch import AppendResult
from store.errors import (
    BadRow,
    CorruptGenerationError,
    CorruptRecordError,
    DeadlineExceededError,
    FieldError,
    GenerationError,
    InputError,
    LockedError,
    LookbackError,
    MapFullError,
    MissingGenerationError,
    OutdatedGenerationError,
    StoreClosedError,
    StoreError,
    StoreIOError,
    TooManyBadRowsError,
)
from store.events import EventBatch
from store.live_writer import LiveWriter
from store.reading.user_view import UserView
from store.retrieval import (
    NO_LEVEL,
    SOURCE_HARD,
    SOURCE_RECENT,
    SOURCE_SOFT,
    Ancestors,
    BehaviorColumns,
    Candidates,
    MatchStatistics,
    Names,
    SearchRequest,
    SearchResult,
    TopK,
)
from store.taxonomy.taxonomy import Taxonomy
from store.types import NO_ID, Section, UserColumns, Vocabulary, parse_id

if TYPE_CHECKING:
    from store.building.ingest import ingest, rebuild
    from store.building.options import BuildReport
    from store.operations.verify.verify import verify

__all__ = [
    "NO_ID",
    "NO_LEVEL",
    "SOURCE_HARD",
    "SOURCE_RECENT",
    "SOURCE_SOFT",
    "Ancestors",
    "AppendResult",
    "BadRow",
    "BehaviorColumns",
    "BehaviorStore",
    "BuildReport",
    "Candidates",
    "CorruptGenerationError",
    "CorruptRecordError",
    "CoverTable",
    "DeadlineExceededError",
    "EventBatch",
    "FieldError",
    "FieldTable",
    "GenerationError",
    "InputError",
    "LiveWriter",
    "LockedError",
    "LookbackError",
    "MapFullError",
    "MatchStatistics",
    "MissingGenerationError",
    "Names",
    "OutdatedGenerationError",
    "SearchRequest",
    "SearchResult",
    "Section",
    "Snapshot",
    "StoreClosedError",
    "StoreError",
    "StoreIOError",
    "Taxonomy",
    "TooManyBadRowsError",
    "TopK",
    "UserColumns",
    "UserView",
    "Vocabulary",
    "ingest",
    "parse_id",
    "parse_rows",
    "rebuild",
    "verify",
]

_HOMES = {
    "BuildReport": "store.building.options",
    "ingest": "store.building.ingest",
    "rebuild": "store.building.ingest",
    "verify": "store.operations.verify.verify",
}
"""What is imported when it is first asked for: a server that only reads has no use for what builds."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
