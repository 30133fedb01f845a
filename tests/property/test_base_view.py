"""What a generation holds already, against looking at all of its events one by one."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.reading.base_view import GenerationView
from store.records.codec import encode_user
from store.types import NO_ID, Section, UserColumns, UserExtras, Vocabulary
from tests.worlds.appends import batch, event

VOCABULARY = Vocabulary(domains=("ads", "content"), actions=("click", "view"), scenes=("",))


@st.composite
def events(draw, max_size):
    def one():
        return event(
            draw(st.integers(0, 2)),
            draw(st.integers(0, 1)),
            draw(st.integers(0, 4)),
            key=draw(st.sampled_from([NO_ID, 0, 1, 2, 3, 4, 5, 6])),
            domain=draw(st.sampled_from(VOCABULARY.domains)),
            action=draw(st.sampled_from([*VOCABULARY.actions, "new"])),
        )

    return [one() for _ in range(draw(st.integers(0, max_size)))]


def record(held):
    """The record of one user's events, all of them at node 0."""
    stream = [VOCABULARY.domains.index(row["domain"]) * 256 + VOCABULARY.actions.index(row["action"]) for row in held]
    by_time = sorted(range(len(held)), key=lambda at: held[at]["timestamp_ms"])
    rows = sorted(by_time, key=stream.__getitem__)
    ordered = [stream[at] for at in rows]
    columns = UserColumns(
        sections=tuple(
            Section(domain=s >> 8, action=s & 255, start=ordered.index(s), stop=ordered.index(s) + ordered.count(s))
            for s in sorted(set(ordered))
        ),
        node=np.zeros(len(held), np.uint32),
        timestamp_ms=np.array([held[at]["timestamp_ms"] for at in rows], np.int64),
        item=np.array([held[at]["item"] for at in rows], np.uint32),
        scene=np.zeros(len(held), np.uint8),
        rank=np.array([by_time.index(at) for at in rows], np.uint16),
        order=np.array([rows.index(at) for at in by_time], np.uint16),
    )
    keys = np.array([held[at]["key"] for at in rows], np.uint64)
    key = keys if (keys != np.uint64(NO_ID)).any() else None
    return memoryview(encode_user(columns, UserExtras(category=np.full(len(held), 255, np.uint8), key=key, fields=())))


def same(one, other):
    if one["key"] != NO_ID or other["key"] != NO_ID:
        return one["key"] == other["key"]
    return all(one[name] == other[name] for name in ("item", "action", "timestamp_ms"))


@given(events(12), events(12))
def test_repeated_events_are_those_that_are_there(held, appended):
    held = [row for row in held if row["action"] != "new"]
    by_user = {row["user"]: [other for other in held if other["user"] == row["user"]] for row in held}
    records = {user: record(rows) for user, rows in by_user.items()}
    meta = SimpleNamespace(
        keyed=any(row["key"] != NO_ID for row in held),
        last_ms=max((row["timestamp_ms"] for row in held), default=0),
        behavior_fields=(),
        delta_sequence=5,
    )
    view = GenerationView(SimpleNamespace(meta=meta, vocabulary=VOCABULARY), SimpleNamespace(record=records.get))
    rows = np.array(sorted(range(len(appended)), key=lambda at: appended[at]["user"]), np.int64)
    expected = [any(same(appended[at], other) for other in by_user.get(appended[at]["user"], [])) for at in rows]
    assert view.repeated(batch(*appended), rows).tolist() == expected
    assert (view.delta_sequence, view.vocabulary) == (5, VOCABULARY)
