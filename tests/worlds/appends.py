"""Batches of events for the delta, and a generation that holds nothing."""

from __future__ import annotations

import numpy as np

from store.events import EventBatch
from store.types import NO_ID, Vocabulary

NOW_MS = 1_700_000_000_000
WORDS = Vocabulary(domains=("ads",), actions=("click", "view"), scenes=("",))


class EmptyBase:
    """A generation without behaviors; `held` are (user, item) pairs that it pretends to hold."""

    def __init__(self, *, vocabulary=WORDS, fields=(), delta_sequence=0, held=()):
        self.vocabulary = vocabulary
        self.fields = fields
        self.delta_sequence = delta_sequence
        self.held = frozenset(held)
        self.asked = []

    def repeated(self, events, rows):
        pairs = list(zip(events.user[rows].tolist(), events.item[rows].tolist(), strict=True))
        self.asked += pairs
        return np.array([pair in self.held for pair in pairs], np.bool_)


def event(user=1, item=2, time=NOW_MS, *, category=NO_ID, key=NO_ID, domain="ads", action="click", scene="", **fields):
    return {
        "user": user,
        "item": item,
        "timestamp_ms": time,
        "category": category,
        "key": key,
        "domain": domain,
        "action": action,
        "scene": scene,
        "fields": fields,
    }


def batch(*events, **more):
    """One batch of `event`s; fields are numbers where a value is a float, else ids."""
    names = sorted({name for row in events for name in row["fields"]})
    fields = {}
    for name in names:
        values = [row["fields"].get(name) for row in events]
        if any(isinstance(value, float) for value in values):
            fields[name] = np.array([np.nan if value is None else value for value in values], np.float32)
        else:
            fields[name] = np.array([NO_ID if value is None else value for value in values], np.uint64)
    return EventBatch(
        user=np.array([row["user"] for row in events], np.uint64),
        item=np.array([row["item"] for row in events], np.uint64),
        category=np.array([row["category"] for row in events], np.uint64),
        timestamp_ms=np.array([row["timestamp_ms"] for row in events], np.int64),
        domain=[row["domain"] for row in events],
        action=[row["action"] for row in events],
        scene=[row["scene"] for row in events],
        key=np.array([row["key"] for row in events], np.uint64),
        fields=fields,
        **more,
    )
