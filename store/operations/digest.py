"""The canonical digest of what a store says, however it says it.

Equal digests mean equal content: it does not depend on codes, numbering, widths, generations, on what is in the base
and what in the delta, on the files the tables came from or on the order of their rows.
"""

# pyarrow makes its compute functions at import time: no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import xxhash

from store.errors import CorruptGenerationError
from store.events import STREAMS_PER_DOMAIN
from store.fields import value_type_of
from store.keys import mix
from store.reading.scan import scan, user_bounds
from store.types import NO_ID, parse_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from store.events import EventRows
    from store.fields import FieldKinds
    from store.reading.snapshot import Snapshot
    from store.types import U64, Vocabulary

TABLES = ("taxonomy", "bridges", "items", "users")

_BATCH_ROWS = 1 << 16
_COLUMNS = 9


class EventDigest:
    """Digests events, any users in any order, all events of one at once.

    A row is 9 words of 8 bytes, little-endian: user, item, category, time, the xxh3-64 of the domain's, the action's
    and the scene's text, event id, side-info (2**64 - 1 = none where there is an id). The side-info word is the sum of
    mix(value ^ xxh3-64 of the field's name) over the fields that have a value, so that a field without any leaves no
    trace. The xxh3-128 of each user's rows in time order are summed modulo 2**128.
    """

    def __init__(self, vocabulary: Vocabulary, fields: FieldKinds) -> None:
        """Prepares to digest events with these codes and these side-info fields."""
        self._domains, self._actions = _hashes(vocabulary.domains), _hashes(vocabulary.actions)
        self._scenes = _hashes(vocabulary.scenes)
        self._fields = _hashes([name for name, _ in fields])
        self._sum = 0
        self.num_users = self.num_rows = 0

    def add(self, rows: EventRows) -> None:
        """Takes some users' events, each user's together and in time order."""
        words = np.empty((len(rows), _COLUMNS), "<u8")
        words[:, 0] = rows.user
        words[:, 1] = rows.item
        words[:, 2] = rows.category
        words[:, 3] = rows.timestamp_ms.view(np.uint64)
        words[:, 4] = self._domains[rows.stream // STREAMS_PER_DOMAIN]
        words[:, 5] = self._actions[rows.stream % STREAMS_PER_DOMAIN]
        words[:, 6] = self._scenes[rows.scene]
        words[:, 7] = np.uint64(NO_ID) if rows.key is None else rows.key
        words[:, 8] = 0
        for name, values in zip(self._fields, rows.fields, strict=True):
            holds = value_type_of(values)
            present = np.flatnonzero(holds.given(values))
            words[present, 8] += mix(holds.to_words(values[present]) ^ name)
        data = words.data.cast("B")
        bounds = (user_bounds(rows) * _COLUMNS * 8).tolist()
        for start, stop in pairwise(bounds):
            self._sum += xxhash.xxh3_128_intdigest(data[start:stop])
        self.num_users += len(bounds) - 1
        self.num_rows += len(rows)

    def value(self) -> bytes:
        """Gives the digest of what was taken so far."""
        return self.num_rows.to_bytes(8, "little") + (self._sum % 2**128).to_bytes(16, "little")


def table_digest(rows: Iterator[dict[str, Any]]) -> bytes:
    """Gives the digest of a table: of its rows in whatever order, a missing value being the same as no column.

    Args:
        rows: The rows; a list is taken as a set.
    """
    total, count = 0, 0
    for row in rows:
        values = {name: _canonical(value) for name, value in row.items() if value is not None}
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        # A sum does not depend on the order, and unlike an exclusive or it sees a row that stands twice.
        total += xxhash.xxh3_128_intdigest(text.encode())
        count += 1
    return count.to_bytes(8, "little") + (total % 2**128).to_bytes(16, "little")


def table_rows(folder: Path, stem: str, hidden: Collection[int] = frozenset()) -> Iterator[dict[str, Any]]:
    """Gives the rows of a table of a generation; none where there is no such table.

    Args:
        folder: `tables` of the generation.
        stem: Name of the table.
        hidden: Users whose rows of `users` are left out.

    Raises:
        CorruptGenerationError: The file cannot be read.
    """
    for batch in table_batches(folder, stem, hidden):
        yield from batch.to_pylist()


def table_batches(folder: Path, stem: str, hidden: Collection[int] = frozenset()) -> Iterator[pa.RecordBatch]:
    """Gives a table of a generation in batches. Arguments and errors: `table_rows`."""
    path = folder / f"{stem}.parquet"
    if not path.is_file():
        return
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                if stem == "users" and hidden:
                    users = batch.column("user").to_pylist()
                    batch = batch.filter(pa.array([parse_id(user, "user") not in hidden for user in users]))
                yield batch
    except (OSError, pa.ArrowException) as exc:
        raise CorruptGenerationError(f"{path}: cannot be read ({exc}); run `lookback-store rebuild`") from exc


def digest(snapshot: Snapshot, progress: Callable[[float], None] = lambda done: None) -> tuple[str, int, int]:
    """Reads everything a snapshot holds.

    Args:
        snapshot: What to read.
        progress: Called with the part that is done, 0 to 1.

    Returns:
        The digest of it, 32 hexadecimal digits; the number of users with behaviors, and of behaviors.

    Raises:
        CorruptGenerationError: A record or a table is damaged.
    """
    events = EventDigest(snapshot.vocabulary, snapshot.meta.behavior_fields)
    for rows in scan(snapshot):
        events.add(rows)
        progress(min(events.num_rows / max(snapshot.meta.num_behaviors, 1), 1.0))
    hidden = hidden_users(snapshot)
    tables = [table_digest(table_rows(snapshot.path / "tables", stem, hidden)) for stem in TABLES]
    return xxhash.xxh3_128_hexdigest(b"".join([events.value(), *tables])), events.num_users, events.num_rows


def hidden_users(snapshot: Snapshot) -> frozenset[int]:
    """Gives the users deleted since the generation was built, ids: rows of its tables that are theirs must not be seen.

    Rows of users deleted before are gone, and a row of one who came back is there because a dataset brought it.
    """
    return frozenset() if snapshot.live is None else frozenset(snapshot.live.deleted_users())


def _hashes(words: Sequence[str]) -> U64:
    return np.array([xxhash.xxh3_64_intdigest(word.encode()) for word in words], np.uint64)


def _canonical(value: Any) -> Any:  # noqa: ANN401 (values of any column)
    return sorted(set(value)) if isinstance(value, list) else value
