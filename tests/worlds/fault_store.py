"""Events that are known by their number alone, so that what a store gives can be told from what nobody ever wrote.

The item of event `n` is `n`, and everything else of it follows from `n`: an answer with another user, time or word
is corrupt, whoever wrote it and whenever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from store import NO_ID, ingest
from store.events import EventBatch
from store.keys import mix
from tests.worlds.datasets import write_dataset

if TYPE_CHECKING:
    from pathlib import Path

NUM_USERS = 40
NUM_CATEGORIES = 30
FIRST_MS = 1_600_000_000_000
SPAN_MS = 86_400_000
DOMAINS = ("ads", "content")
ACTIONS = ("click", "view")
SCENES = ("", "feed", "top")

TAXONOMY = [
    {"category": number, "parent": number // 3 or None, "name": f"category {number}", "domain": None}
    for number in range(1, NUM_CATEGORIES + 1)
]
ITEMS = [
    {"item": 2**40 + number, "category": 1 + number % NUM_CATEGORIES, "name": f"item {number}", "price": number / 2}
    for number in range(600)
]
USERS = [{"user": number, "age": "18-24" if number % 2 else "25-34"} for number in range(NUM_USERS)]


def columns(numbers):
    """Gives every column of some events; the words as codes of `DOMAINS`, `ACTIONS` and `SCENES`."""
    numbers = np.asarray(numbers, np.uint64)
    random = mix(numbers + np.uint64(1 << 32))

    def draw(shift, count):
        return (random >> np.uint64(shift)) % np.uint64(count)

    return {
        "user": draw(0, NUM_USERS),
        "item": numbers,
        "category": draw(6, NUM_CATEGORIES) + np.uint64(1),
        "timestamp_ms": (draw(12, SPAN_MS) + np.uint64(FIRST_MS)).view(np.int64),
        "domain": draw(50, len(DOMAINS)),
        "action": draw(51, len(ACTIONS)),
        "scene": draw(52, len(SCENES)),
        "key": np.where(draw(54, 2) == 0, np.uint64(NO_ID), numbers),
    }


def users_of(numbers):
    """Gives the user of each event."""
    return columns(numbers)["user"]


def batch(numbers):
    """Gives some events as a batch to append."""
    found = columns(numbers)
    words = {
        name: [known[code] for code in found[name].tolist()]
        for name, known in (("domain", DOMAINS), ("action", ACTIONS), ("scene", SCENES))
    }
    return EventBatch(
        user=found["user"],
        item=found["item"],
        category=found["category"],
        timestamp_ms=found["timestamp_ms"],
        key=found["key"],
        **words,
    )


def write_events(folder: Path, numbers, *, files: int = 1, items: int = 30) -> Path:
    """Writes a dataset folder with some events, in so many files, and the tables, with so many items."""
    write_dataset(folder, taxonomy=TAXONOMY, items=ITEMS[:items], users=USERS)
    for at, part in enumerate(np.array_split(np.asarray(numbers), files)):
        found = columns(part)
        keys = found.pop("key")
        table = {
            **found,
            "domain": np.array(DOMAINS)[found["domain"]],
            "action": np.array(ACTIONS)[found["action"]],
            "scene": np.array(SCENES)[found["scene"]],
            "event_id": pa.array(keys, mask=keys == np.uint64(NO_ID)),
        }
        pa.parquet.write_table(pa.table(table), folder / f"behaviors-{at}.parquet")
    return folder


def make_store(folder: Path, numbers, *, items: int = 30) -> Path:
    """Makes a store with some events, and gives its root."""
    ingest(write_events(folder / "dataset", numbers, items=items), folder / "store")
    return folder / "store"


def wrong_rows(user: int, events, vocabulary) -> int:
    """Counts the events of a user that nobody wrote like that.

    Args:
        user: User id.
        events: `EventRows` as `UserView.events` gives them.
        vocabulary: Its words.
    """
    known = columns(events.item)
    wrong = known["user"] != np.uint64(user)
    for name in ("category", "timestamp_ms", "key"):
        wrong |= known[name] != getattr(events, name)
    for name, words, names, codes in (
        ("domain", DOMAINS, vocabulary.domains, events.stream // 256),
        ("action", ACTIONS, vocabulary.actions, events.stream % 256),
        ("scene", SCENES, vocabulary.scenes, events.scene),
    ):
        wrong |= np.array(words)[known[name]] != np.array(names)[codes]
    wrong[1:] |= events.timestamp_ms[1:] < events.timestamp_ms[:-1]
    return int(np.count_nonzero(wrong))
