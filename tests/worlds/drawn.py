"""Drawn events with side-info, as the dataset they are ingested from: for Hypothesis."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet
from hypothesis import strategies as st

IDS = st.one_of(st.integers(0, 6).map(str), st.integers(2**63, 2**64 - 2).map(str), st.sampled_from(["a", "007", "ü"]))
WORDS = st.sampled_from(["ads", "content", "[x]", "ü"])
EVENT = st.fixed_dictionaries(
    {
        "user": IDS,
        "item": IDS,
        "category": st.one_of(st.none(), IDS),
        "domain": WORDS,
        "action": WORDS,
        "scene": st.one_of(st.none(), WORDS),
        "timestamp_ms": st.integers(0, 20),
        "event_id": st.one_of(st.none(), IDS),
        "device": st.one_of(st.none(), IDS),
        "stars": st.one_of(st.none(), st.floats(-(2.0**99), 2.0**99, width=32)),
    }
)
TYPES = {"timestamp_ms": pa.int64(), "stars": pa.float32()}


def write_behaviors(folder, events):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([event[name] for event in events], TYPES.get(name, pa.string()))
        for name in (
            "user",
            "item",
            "category",
            "domain",
            "action",
            "scene",
            "timestamp_ms",
            "event_id",
            "device",
            "stars",
        )
    }
    pa.parquet.write_table(pa.table(columns), folder / "behaviors.parquet")
