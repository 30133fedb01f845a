"""Generated events, seeded: log-normal users, a ragged category tree, a year of four streams."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from search_stage.index.export import EXPORT_FILE
from store.events import EventBatch
from store.fields import ID
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from store.types import F32, AnyArray

RAW_BYTES = 28
"""Of an event: item 8, category 8, time 8, domain 1, action 1, scene 2. The user is the key."""
EVENTS_PER_USER = 500
FIRST_EXACT_USER = 10_000_000_000
"""The user with exactly L behaviors has the id FIRST_EXACT_USER + L."""

CATEGORIES = 2_000
"""Their ids are 1 to that."""
TOP_CATEGORIES = 20
_DOMAINS = ("ads", "content")
_ACTIONS = ("click", "view")
_SCENES = ("feed", "home", "mail", "search")
FIRST_MS = 1_700_000_000_000
YEAR_MS = 365 * DAY_MS
_NEWER_MS = 30 * DAY_MS
_FILE_ROWS = 2_000_000


class Catalogue:
    """Items with the ids 1 and up, each of one of `CATEGORIES` categories."""

    def __init__(self, num_items: int, draw: np.random.Generator) -> None:
        number = np.arange(CATEGORIES)
        # The parents of the k-th category are among the first k / 8; those of the top ones do not count.
        highest = np.minimum(np.maximum(number // 8, TOP_CATEGORIES), np.maximum(number, 1))
        self.parent = draw.integers(0, highest)
        """Position of each category's parent: few at the top, four levels or so. (CATEGORIES,)"""
        self.category_of = draw.integers(1, CATEGORIES + 1, num_items)
        """Id of each item's category. (items,)"""

    def write(self, folder: Path) -> None:
        """Writes the taxonomy and the items of a dataset folder."""
        number = np.arange(CATEGORIES)
        taxonomy = {"category": number + 1, "parent": pa.array(self.parent + 1, mask=number < TOP_CATEGORIES)}
        pq.write_table(pa.table(taxonomy), folder / "taxonomy.parquet")
        items = {"item": np.arange(1, len(self.category_of) + 1), "category": self.category_of}
        pq.write_table(pa.table(items), folder / "items.parquet")


def write_export(folder: Path, categories: F32, items: F32) -> None:
    """Writes vectors of all categories and of the first items as an attention export.

    Args:
        folder: To make.
        categories: (CATEGORIES, d)
        items: Of the items 1 and up. (I, d)
    """
    folder.mkdir()
    tensors: dict[str, AnyArray] = {"category_vectors": categories, "item_vectors": items}
    ids = {"category_ids": np.arange(1, len(categories) + 1), "item_ids": np.arange(1, len(items) + 1)}
    save_file({**tensors, **ids}, folder / EXPORT_FILE)


class World:
    """Users, items and categories; draws events of them."""

    def __init__(self, num_events: int, num_items: int, seed: int = 0) -> None:
        """Makes a world with `num_events` events over `num_items` items."""
        self._seed = seed
        self._num_items = num_items
        draw = np.random.default_rng([seed, 0])
        self.num_events = num_events
        weight = draw.lognormal(0.0, 1.2, max(1, num_events // EVENTS_PER_USER))
        self._share = np.cumsum(weight) / weight.sum()
        self.catalogue = Catalogue(num_items, draw)

    def write(self, folder: Path) -> int:
        """Writes a dataset folder, and gives the size of its behaviors files in bytes.

        Each file of at most 2,000,000 rows is in time order and spans the whole year, so that all of them interleave.
        """
        folder.mkdir(parents=True)
        self.catalogue.write(folder)
        size = 0
        for number, start in enumerate(range(0, self.num_events, _FILE_ROWS)):
            draw = np.random.default_rng([self._seed, 1, number])
            rows = min(_FILE_ROWS, self.num_events - start)
            path = folder / f"behaviors-{number:03d}.parquet"
            pq.write_table(self._table(self._users(rows, draw), draw), path)
            size += path.stat().st_size
        return size

    def write_exact(self, folder: Path, lengths: Sequence[int]) -> None:
        """Writes a dataset folder with one more user per length, who has exactly that many behaviors."""
        folder.mkdir(parents=True)
        draw = np.random.default_rng([self._seed, 2])
        users = np.repeat(FIRST_EXACT_USER + np.array(lengths, np.int64), lengths)
        pq.write_table(self._table(draw.permutation(users), draw), folder / "behaviors.parquet")

    def newer(self, num_events: int, batch_rows: int) -> Iterator[EventBatch]:
        """Gives events of the month after, in time order, in batches; none has an event id."""
        step_ms = _NEWER_MS / max(num_events, 1)
        for number, start in enumerate(range(0, num_events, batch_rows)):
            draw = np.random.default_rng([self._seed, 3, number])
            rows = min(batch_rows, num_events - start)
            times = FIRST_MS + YEAR_MS + ((start + np.arange(rows)) * step_ms).astype(np.int64)
            yield self._batch(self._users(rows, draw), times, draw)

    def newer_of(self, user: int, num_events: int, first_ms: int) -> EventBatch:
        """Gives a batch of one user's events, a second apart."""
        draw = np.random.default_rng([self._seed, 4, user])
        times = first_ms + 1_000 * np.arange(num_events, dtype=np.int64)
        return self._batch(np.full(num_events, user, np.int64), times, draw)

    def _users(self, rows: int, draw: np.random.Generator) -> AnyArray:
        users: AnyArray = np.searchsorted(self._share, draw.random(rows))
        return users

    def _items(self, rows: int, draw: np.random.Generator) -> tuple[AnyArray, AnyArray]:
        at = draw.integers(0, self._num_items, rows)
        return at + 1, self.catalogue.category_of[at]

    def _table(self, users: AnyArray, draw: np.random.Generator) -> pa.Table:
        item, category = self._items(len(users), draw)
        words = {"domain": _DOMAINS, "action": _ACTIONS, "scene": _SCENES}
        codes = {name: draw.integers(0, len(names), len(users), np.int8) for name, names in words.items()}
        return pa.table(
            {
                "user": users,
                "item": item,
                "category": category,
                **{name: pa.DictionaryArray.from_arrays(codes[name], list(words[name])) for name in words},
                "timestamp_ms": FIRST_MS + np.sort(draw.integers(0, YEAR_MS, len(users))),
            }
        )

    def _batch(self, users: AnyArray, timestamp_ms: AnyArray, draw: np.random.Generator) -> EventBatch:
        rows = len(users)
        item, category = self._items(rows, draw)
        domain, action, scene = (
            [names[code] for code in draw.integers(0, len(names), rows).tolist()]
            for names in (_DOMAINS, _ACTIONS, _SCENES)
        )
        return EventBatch(
            user=users.astype(np.uint64),
            item=item.astype(np.uint64),
            category=category.astype(np.uint64),
            timestamp_ms=timestamp_ms,
            domain=domain,
            action=action,
            scene=scene,
            key=ID.missing(rows),
        )


def cut(batch: EventBatch, start: int, stop: int) -> EventBatch:
    """Gives some rows of a batch."""
    columns = ("user", "item", "category", "timestamp_ms", "domain", "action", "scene", "key")
    fields = {name: column[start:stop] for name, column in batch.fields.items()}
    return replace(batch, **{name: getattr(batch, name)[start:stop] for name in columns}, fields=fields)
