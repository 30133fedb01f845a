"""The delta against a model of plain lists: any appends, deletions, trims and restarts."""

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import store.delta.dedupe
import store.delta.transaction
import store.delta.trim
from store.delta.batch import ACCEPTED, DUPLICATE, REFUSED
from store.delta.dedupe import HashFilter, SeenEvents, event_hashes, event_identities
from store.delta.delta import Delta
from store.delta.layout import META_SEQUENCE, NUMBER, event_key, event_keys, split_event_keys
from store.delta.rows import DeltaRows, decode_rows, encode_rows
from store.delta.writer import DeltaWriter
from store.keys import mix_one, user_key
from store.types import NO_ID
from tests.worlds.appends import NOW_MS, EmptyBase, batch, event

USERS = range(5)
IDS = st.sampled_from([0, 1, 2**63, NO_ID - 1])
FIELDS = (("os", "id"), ("price", "number"))


@st.composite
def events(draw):
    fields = {}
    if draw(st.integers(0, 4)) == 0:
        fields["os"] = draw(IDS)
    if draw(st.integers(0, 4)) == 0:
        fields["price"] = draw(st.floats(width=32, allow_nan=False, allow_infinity=False))
    return event(
        draw(st.sampled_from(USERS)),
        draw(st.integers(0, 2)),
        NOW_MS + draw(st.integers(-2, 3)),
        category=draw(IDS),
        key=draw(st.sampled_from([NO_ID, NO_ID, 7, 8])),
        domain=draw(st.sampled_from(["ads", "content", ""])),
        action=draw(st.sampled_from(["click", "view"])),
        scene=draw(st.sampled_from(["", "top"])),
        **fields,
    )


def identity(row):
    if row["key"] != NO_ID:
        return row["user"], row["key"]
    return row["user"], row["item"], row["action"], row["timestamp_ms"]


class KeylessBase(EmptyBase):
    """Holds some users' item 0, whatever the action and time, where it has no event id."""

    def repeated(self, events, rows):
        return super().repeated(events, rows) & (events.key[rows] == np.uint64(NO_ID))


class DeltaMachine(RuleBasedStateMachine):
    """`self.rows` is what the delta must hold: (sequence, event) in the order of the sequence numbers."""

    @initialize()
    def open(self):
        # Small steps, so that a few rows cross every border.
        self.patches = [
            patch.object(store.delta.transaction, "_BLOCK_ROWS", 3),
            patch.object(store.delta.transaction, "_FIRST_VALUES", 1),
            patch.object(store.delta.trim, "_TRIM_ROWS", 3),
            patch.object(store.delta.dedupe, "_BLOCK_ROWS", 4),
            patch.object(store.delta.dedupe, "_FEW", 2),
            patch.object(store.delta.dedupe, "_MANY", 4),
        ]
        for each in self.patches:
            each.start()
        self.root = Path(tempfile.mkdtemp())
        self.now_ms = NOW_MS
        self.rows = []
        self.graves = {}
        self.last = 0
        self.trimmed = 0
        self.offset = None
        self._open()

    def _open(self):
        self.writer = DeltaWriter(self.root, now_ms=lambda: self.now_ms, max_skew_ms=2, map_size_bytes=1 << 25)

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            shutil.rmtree(self.root)
            for each in self.patches:
                each.stop()

    @rule(
        batches=st.lists(st.lists(events(), max_size=6), min_size=1, max_size=3), held=st.sets(st.sampled_from(USERS))
    )
    def append(self, batches, held):
        """`held`: users of whom the generation has item 0 already."""
        base = KeylessBase(fields=FIELDS, delta_sequence=self.trimmed, held={(user, 0) for user in held})
        self.offset = str(self.last).encode()
        results = self.writer.append([batch(*rows) for rows in batches], base, {"log": self.offset})
        for rows, result in zip(batches, results, strict=True):
            assert result.result.tolist() == [self._expect(row, held) for row in rows]
            assert sorted(result.reasons) == np.flatnonzero(result.result == REFUSED).tolist()
        assert {result.sequence for result in results} == {self.last}

    def _expect(self, row, held):
        sequence, deleted_ms = self.graves.get(row["user"], (0, -1))
        if row["timestamp_ms"] > self.now_ms + 2 or not row["domain"] or row["timestamp_ms"] <= deleted_ms:
            return REFUSED
        if any(identity(row) == identity(other) for _, other in self.rows):
            return DUPLICATE
        if (row["user"] in held, row["item"], row["key"]) == (True, 0, NO_ID) and sequence <= self.trimmed:
            return DUPLICATE
        self.last += 1
        self.rows.append((self.last, row))
        return ACCEPTED

    @rule(user=st.sampled_from(USERS))
    def delete(self, user):
        newest = max((row["timestamp_ms"] for _, row in self.rows if row["user"] == user), default=0)
        self.last += 1
        self.graves[user] = (self.last, max(self.now_ms, newest, self.graves.get(user, (0, 0))[1]))
        grave = self.writer.delete_user(user)
        assert (grave.sequence, grave.deleted_ms) == self.graves[user]
        self.rows = [(sequence, row) for sequence, row in self.rows if row["user"] != user]

    @rule(back=st.integers(0, 5))
    def trim(self, back):
        up_to = max(self.last - back, 0)
        kept = [(sequence, row) for sequence, row in self.rows if sequence > up_to]
        assert self.writer.trim(up_to) == len(self.rows) - len(kept)
        self.rows = kept
        self.trimmed = max(self.trimmed, up_to)

    @rule()
    def restart(self):
        self.writer.close()
        self._open()

    @rule(step=st.integers(-2, 2))
    def move_the_clock(self, step):
        self.now_ms += step

    @precondition(lambda self: self.last < 1 << 17)
    @rule()
    def come_to_the_end_of_a_segment(self):
        self.last = (self.last >> 16 << 16) + 65_533 if self.last & 0xFFFF < 65_533 else self.last
        databases = self.writer.delta.databases
        with self.writer.delta.environment.begin(databases.meta, write=True) as transaction:
            transaction.put(META_SEQUENCE, NUMBER.pack(self.last))

    @invariant()
    def it_reads_like_the_model(self):
        if not hasattr(self, "writer"):
            return
        with Delta.open(self.root).begin() as transaction:
            assert transaction.num_events == len(self.rows)
            assert transaction.last_sequence == self.last
            assert transaction.trimmed == self.trimmed
            assert transaction.offset("log") == self.offset
            assert {user: (g.sequence, g.deleted_ms) for user, g in transaction.deleted()} == self.graves
            words = transaction.words()
            for after in {0, self.trimmed, max(self.last - 2, 0)}:
                expected = {}
                for sequence, row in self.rows:
                    if sequence > after:
                        expected.setdefault(row["user"], []).append((sequence, row))
                in_order = sorted(expected, key=mix_one)
                assert list(transaction.user_ids(after)) == in_order
                scanned = list(transaction.scan(after=after))
                assert [user for user, _ in scanned] == in_order
                for user, rows in scanned:
                    self._compare(rows, words, expected[user])
                for user in USERS:
                    self._compare(transaction.rows(user, after), words, expected.get(user, []))

    def _compare(self, rows, words, expected):
        assert rows.sequence.tolist() == [sequence for sequence, _ in expected]
        for name in ("item", "category", "timestamp_ms", "key"):
            assert getattr(rows, name).tolist() == [row[name] for _, row in expected]
        for name in ("domain", "action", "scene"):
            codes, names = getattr(rows, name).tolist(), getattr(words, f"{name}s")
            assert [names[code] for code in codes] == [row[name] for _, row in expected]
        for at, (_, row) in enumerate(expected):
            given = {}
            for code, column in rows.fields.items():
                name, kind = words.fields[code]
                if not (column[at] == NO_ID if kind == "id" else np.isnan(column[at])):
                    given[name] = column[at]
            assert given == row["fields"]


TestDelta = DeltaMachine.TestCase
TestDelta.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


@st.composite
def delta_rows(draw, size):
    """Any rows, with up to three fields that some of them have."""

    def column(values, dtype):
        return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype)

    number, small = st.integers(0, 2**64 - 1), st.integers(0, 255)
    fields = {}
    for code in draw(st.sets(st.sampled_from([0, 1, 200]))):
        if code == 1:
            fields[code] = column(st.floats(width=32), np.float32)
        else:
            fields[code] = column(st.one_of(number, st.just(NO_ID)), np.uint64)
    return DeltaRows(
        sequence=column(number, np.uint64),
        item=column(number, np.uint64),
        category=column(number, np.uint64),
        timestamp_ms=column(st.integers(-(2**63), 2**63 - 1), np.int64),
        key=column(number, np.uint64),
        domain=column(small, np.uint8),
        action=column(small, np.uint8),
        scene=column(st.integers(0, 65535), np.uint16),
        fields=fields,
    )


def plain_row(rows, at):
    """The bytes of a row without its checksum, field by field."""
    entries = b""
    for code in sorted(rows.fields):
        value = rows.fields[code][at]
        if value.dtype == np.float32:
            data = b"" if np.isnan(value) else value.tobytes() + bytes(4)
        else:
            data = b"" if value == np.uint64(NO_ID) else int(value).to_bytes(8, "little")
        entries += code.to_bytes(8, "little") + data if data else b""
    columns = (
        rows.item,
        rows.category,
        rows.timestamp_ms,
        rows.key,
        rows.sequence,
        rows.domain,
        rows.action,
        rows.scene,
    )
    head = b"".join(column[at].tobytes() for column in columns)
    return head + bytes([len(entries) // 16]) + bytes(3) + entries


@given(st.data(), st.integers(0, 8))
def test_rows_are_the_bytes_that_the_format_says(data, size):
    rows = data.draw(delta_rows(size))
    users = np.array(data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=size, max_size=size)), np.uint64)
    encoded = encode_rows(users, rows)
    assert [row[:45] + bytes(3) + row[48:] for row in encoded] == [plain_row(rows, at) for at in range(size)]
    decoded = decode_rows(encoded, users, ["id", "number"] + ["id"] * 199)
    assert [plain_row(decoded, at) for at in range(size)] == [plain_row(rows, at) for at in range(size)]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_keys_of_events_split_again(pairs):
    users = np.array([user for user, _ in pairs], np.uint64)
    sequence = np.array([number for _, number in pairs], np.uint64)
    keys = event_keys(users, sequence)
    assert keys == [event_key(number, user.to_bytes(8, "big")) for user, number in pairs]
    assert [column.tolist() for column in split_event_keys(keys)] == [users.tolist(), sequence.tolist()]
    assert user_key(5) == mix_one(5).to_bytes(8, "big")


@given(st.lists(events()), st.lists(st.integers(0, 3 << 16)), st.integers(0, 3 << 16))
def test_no_repeated_event_goes_unsuspected(rows, numbers, forgotten):
    """The filter may suspect too much, never too little."""
    columns = batch(*rows)
    action = np.array([len(row["action"]) for row in rows], np.uint8)
    parts = columns.user, columns.key, columns.item, action, columns.timestamp_ms
    identities, hashes = event_identities(*parts), event_hashes(*parts)
    assert [a == b for a in identities for b in identities] == [a == b for a in hashes for b in hashes]
    seen = SeenEvents()
    stored = list(zip(numbers, range(len(rows)), strict=False))
    for number, row in stored:
        seen.add(np.array([number], np.uint64), hashes[row : row + 1])
    seen.forget(forgotten)
    suspect, places = seen.suspects(hashes)
    for at in range(len(rows)):
        assert suspect[at] or identities.count(identities[at]) == 1
        for number, row in stored:
            if number > forgotten and identities[row] == identities[at]:
                assert any(segment == number >> 16 and at in found.tolist() for segment, found in places)


@given(
    known=st.lists(st.integers(0, 2**64 - 1), max_size=50),
    asked=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50),
)
def test_the_filter_forgets_no_hash(known, asked):
    filled = HashFilter.of([np.array(known, np.uint64)])
    assert filled.may_hold(np.array(known, np.uint64)).all()
    both = np.array([*known, *asked], np.uint64)
    # Two hashes share a bit when their upper 20 bits are equal.
    assert filled.may_hold(both).tolist() == [number >> 44 in {one >> 44 for one in known} for number in both.tolist()]


def test_a_full_filter_takes_nothing_and_a_larger_one_holds_all():
    hashes = np.arange(2**16, dtype=np.uint64) << np.uint64(40)
    small = HashFilter()
    assert small.add(hashes)
    assert not small.add(hashes[:1])
    assert HashFilter.of([hashes, hashes]).may_hold(hashes).all()
