"""Behaviors on disk: the taxonomy, the generations, and one user's whole past in one read."""

from store.building.ingest import ingest, rebuild
from store.building.options import BuildReport
from store.errors import (
    CorruptGenerationError,
    CorruptRecordError,
    GenerationError,
    InputError,
    MissingGenerationError,
    StoreClosedError,
    StoreError,
    StoreIOError,
    TooManyBadRowsError,
)
from store.generations.tables import CoverTable, FieldTable
from store.operations.verify import verify
from store.reading.behavior_store import BehaviorStore, Snapshot
from store.taxonomy.taxonomy import Taxonomy
from store.types import NO_ID, Section, UserColumns, Vocabulary, parse_id

__all__ = [
    "NO_ID",
    "BehaviorStore",
    "BuildReport",
    "CorruptGenerationError",
    "CorruptRecordError",
    "CoverTable",
    "FieldTable",
    "GenerationError",
    "InputError",
    "MissingGenerationError",
    "Section",
    "Snapshot",
    "StoreClosedError",
    "StoreError",
    "StoreIOError",
    "Taxonomy",
    "TooManyBadRowsError",
    "UserColumns",
    "Vocabulary",
    "ingest",
    "parse_id",
    "rebuild",
    "verify",
]
