import gc
import os
import threading

import numpy as np
import pytest

import store.delta.delta
from store.delta.checksum import seal
from store.delta.delta import Delta
from store.delta.integrity.check import find_delta_damage
from store.delta.layout import META_FORMAT, META_SEQUENCE, NUMBER, Tombstone
from store.delta.writer import DeltaWriter
from store.errors import CorruptGenerationError, CorruptRecordError, StoreIOError
from store.files.environment import DATA_FILE, open_shared
from store.keys import mix_one, user_key
from store.types import NO_ID
from tests.worlds.appends import NOW_MS, EmptyBase, batch, event

BASE = EmptyBase(fields=(("os", "id"), ("price", "number")))


@pytest.fixture
def writer(tmp_path):
    with DeltaWriter(tmp_path, now_ms=lambda: NOW_MS, map_size_bytes=1 << 26) as writer:
        yield writer


def append(writer, *events):
    [result] = writer.append([batch(*events)], BASE)
    assert result.num_accepted == len(events)
    return result.sequence


def jump(writer, sequence):
    """Makes the delta forget which number it gave last."""
    delta = writer.delta
    with delta.environment.begin(delta.databases.meta, write=True) as transaction:
        transaction.put(META_SEQUENCE, NUMBER.pack(sequence))


def test_where_nothing_was_appended_there_is_no_delta(tmp_path):
    assert Delta.open(tmp_path) is None
    (tmp_path / "delta").mkdir()
    assert Delta.open(tmp_path) is None
    assert list((tmp_path / "delta").iterdir()) == []


def test_an_empty_delta(writer, tmp_path):
    with Delta.open(tmp_path).begin() as transaction:
        assert transaction.last_sequence == transaction.trimmed == 0
        assert transaction.num_events == transaction.num_tombstones == 0
        assert len(transaction.rows(1)) == 0
        assert transaction.tombstone(1) is None
        assert transaction.offset("log") is None
        assert list(transaction.scan()) == list(transaction.user_ids()) == list(transaction.deleted()) == []
        assert transaction.words().domains == ()
        assert transaction.name("user", 1) is None


def test_what_is_appended_is_read(writer, tmp_path):
    first = append(
        writer,
        event(1, 10, 500, category=3, domain="ads", action="view", scene="top", os=8),
        event(2, 20, 400),
        event(1, 11, 300, key=77, domain="content", price=2.5),
    )
    assert first == 3
    assert append(writer, event(1, 12, 200)) == 4
    with Delta.open(tmp_path).begin() as transaction:
        rows, words = transaction.rows(1), transaction.words()
        assert rows.sequence.tolist() == [1, 3, 4]
        assert rows.item.tolist() == [10, 11, 12]
        assert rows.category.tolist() == [3, NO_ID, NO_ID]
        assert rows.timestamp_ms.tolist() == [500, 300, 200]
        assert rows.key.tolist() == [NO_ID, 77, NO_ID]
        assert [words.domains[code] for code in rows.domain] == ["ads", "content", "ads"]
        assert [words.actions[code] for code in rows.action] == ["view", "click", "click"]
        assert [words.scenes[code] for code in rows.scene] == ["top", "", ""]
        os, price = (rows.fields[words.fields.index(field)] for field in (("os", "id"), ("price", "number")))
        assert os.tolist() == [8, NO_ID, NO_ID]
        np.testing.assert_array_equal(price, np.array([np.nan, 2.5, np.nan], np.float32))
        assert transaction.rows(1, after=1).item.tolist() == [11, 12]
        assert len(transaction.rows(1, after=4)) == len(transaction.rows(3)) == 0
        assert transaction.rows(2).fields == {}
        assert sorted(transaction.user_ids()) == [1, 2]
        assert list(transaction.user_ids(after=3)) == [1]
        assert (transaction.num_events, transaction.last_sequence) == (4, 4)


def test_users_stand_in_the_order_of_their_keys_over_all_segments(writer, tmp_path):
    users = range(40)
    for start in (0, 65_530, 131_060, 5 << 16):
        jump(writer, start)
        append(writer, *[event(user, start, 1 + start) for user in users])
    in_order = sorted(users, key=mix_one)
    with Delta.open(tmp_path).begin() as transaction:
        scanned = list(transaction.scan())
        assert [user for user, _ in scanned] == list(transaction.user_ids()) == in_order
        for user, rows in scanned:
            alone = transaction.rows(user)
            assert rows.sequence.tolist() == alone.sequence.tolist() == sorted(rows.sequence.tolist())
            assert rows.item.tolist() == alone.item.tolist() == [0, 65_530, 131_060, 5 << 16]
        middle = user_key(in_order[20])
        assert [user for user, _ in transaction.scan(None, middle)] == in_order[:20]
        assert [user for user, _ in transaction.scan(middle, None)] == in_order[20:]
        assert [user for user, _ in transaction.scan(middle, middle)] == []
        assert [len(rows) for _, rows in transaction.scan(after=131_060)] == [2] * 40
        assert [len(transaction.rows(user, after=131_100)) for user in users] == [1] * 40


def test_a_user_with_more_events_than_are_read_at_once(writer, tmp_path, monkeypatch):
    monkeypatch.setattr("store.delta.transaction._BLOCK_ROWS", 10)
    for start in (0, 65_500):
        jump(writer, start)
        append(writer, *[event(1, at, start + 1) for at in range(100)], event(2, 0, start + 1))
    with Delta.open(tmp_path).begin() as transaction:
        assert {user: len(rows) for user, rows in transaction.scan()} == {1: 200, 2: 2}
        assert transaction.rows(1).item.tolist() == [*range(100)] * 2


def test_a_transaction_sees_one_moment(writer, tmp_path):
    append(writer, event(1, 10))
    before = Delta.open(tmp_path).begin()
    append(writer, event(1, 11, scene="new"))
    writer.delete_user(2)
    assert before.rows(1).item.tolist() == [10]
    assert before.words().scenes == ("",)
    assert before.tombstone(2) is None
    with Delta.open(tmp_path).begin() as after:
        assert after.rows(1).item.tolist() == [10, 11]
        assert after.words().scenes == ("", "new")
        assert after.tombstone(2) == Tombstone(sequence=3, deleted_ms=NOW_MS)
    assert before.words().scenes == ("",)
    before.close()
    before.close()


def test_readers_do_not_wait_for_the_writer(writer, tmp_path):
    append(writer, event(1, 10))
    delta = Delta.open(tmp_path)
    with delta.environment.begin(write=True):
        read = []

        def look():
            with delta.begin() as transaction:
                read.extend(transaction.rows(1).item.tolist())

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(10)
        assert read == [10]


def test_names_and_offsets(writer, tmp_path):
    names = {"user": {1: "anna", 9: "not in the batch"}, "item": {10: "apple"}, "value": {8: "linux", 10: "no"}}
    writer.append([batch(event(1, 10, os=8, price=10.0), names=names)], BASE, {"log/0": b"12"})
    writer.append([batch(event(1, 11), names={"user": {1: "other"}})], BASE, {"log/0": b"13", "log/1": b""})
    with Delta.open(tmp_path).begin() as transaction:
        assert transaction.name("user", 1) == "anna"
        assert transaction.name("user", 9) is None
        assert list(transaction.names("user")) == [(1, "anna")]
        assert list(transaction.names("item")) == [(10, "apple")]
        assert list(transaction.names("category")) == []
        assert list(transaction.names("value")) == [(8, "linux")]
        assert transaction.offset("log/0") == b"13"
        assert list(transaction.offsets()) == [("log/0", b"13"), ("log/1", b"")]


def test_a_damaged_row_is_found(writer, tmp_path):
    append(writer, event(1, 10), event(2, 20))
    delta = writer.delta
    with delta.environment.begin(delta.databases.events, write=True) as transaction:
        [(key, value)] = [item for item in transaction.cursor().iternext() if item[0][6:14] == user_key(1)]
        transaction.put(key, bytes([value[0] ^ 1, *value[1:]]))
    with Delta.open(tmp_path).begin() as transaction:
        assert transaction.rows(2).item.tolist() == [20]
        with pytest.raises(CorruptRecordError, match=r"data.mdb: user 1: .* restore a backup"):
            transaction.rows(1)
        with pytest.raises(CorruptRecordError):
            list(transaction.scan())


def test_a_row_under_a_wrong_number_is_found(writer, tmp_path):
    append(writer, event(1, 10))
    delta = writer.delta
    with delta.environment.begin(delta.databases.events, write=True) as transaction:
        [(key, value)] = transaction.cursor().iternext()
        transaction.delete(key)
        transaction.put(key[:-1] + b"\2", value)
    with Delta.open(tmp_path).begin() as transaction, pytest.raises(CorruptRecordError, match="another number"):
        list(transaction.scan())


def test_a_file_that_was_cut_short_is_refused(writer, tmp_path):
    append(writer, *[event(user) for user in range(1000)])
    writer.close()
    file = tmp_path / "delta" / DATA_FILE
    size = file.stat().st_size
    for length in (size - 1, size // 2, 8192, 4096, 1):
        os.truncate(file, length)
        with pytest.raises((CorruptGenerationError, StoreIOError), match=r"data\.mdb"):
            Delta.open(tmp_path)


def test_another_format_is_refused(writer, tmp_path):
    delta = writer.delta
    with delta.environment.begin(delta.databases.meta, write=True) as transaction:
        transaction.put(META_FORMAT, NUMBER.pack(9))
    with pytest.raises(CorruptGenerationError, match="format version 9, this program reads 1"):
        Delta.open(tmp_path)


def is_short(environment):
    """LMDB does not write pages at the end that it has freed before they were written."""
    return (environment.folder / DATA_FILE).stat().st_size < (environment.info()["last_pgno"] + 1) * 4096


def test_pages_that_were_never_written_are_no_damage(writer, tmp_path):
    append(writer, *[event(user) for user in range(100)])
    delta = writer.delta
    keys = [at.to_bytes(8, "big") * 2 for at in np.random.default_rng(0).permutation(3000).tolist()]
    for _ in range(20):
        with delta.environment.begin(delta.databases.offsets, write=True) as transaction:
            for key in keys:
                transaction.put(key, seal(key, bytes(48)))
            for key in keys:
                transaction.delete(key)
        if is_short(delta.environment):
            break
    assert is_short(delta.environment)
    assert find_delta_damage(delta.environment) is None
    assert len(Delta.open(tmp_path).begin().rows(1)) == 1


def test_where_it_cannot_be_written_it_is_read(writer, tmp_path, monkeypatch):
    append(writer, event(1, 10))
    writer.close()
    gc.collect()
    open_shared = store.delta.delta.open_shared

    def read_only(folder, *, writable, **options):
        if writable:
            raise StoreIOError("read-only file system")
        return open_shared(folder, writable=False, **options)

    monkeypatch.setattr(store.delta.delta, "open_shared", read_only)
    with Delta.open(tmp_path).begin() as transaction:
        assert transaction.rows(1).item.tolist() == [10]
    with pytest.raises(StoreIOError):
        DeltaWriter(tmp_path)
    monkeypatch.setattr(store.delta.delta, "open_shared", lambda folder, **options: read_only(folder, writable=True))
    with pytest.raises(StoreIOError):
        Delta.open(tmp_path, writable=False)


def test_one_that_is_half_made_counts_as_none(tmp_path):
    folder = tmp_path / "delta"
    folder.mkdir()
    environment = open_shared(folder, writable=True, max_dbs=8, map_size_bytes=1 << 20)
    environment.open_db(b"events", create=True)
    assert Delta.open(tmp_path) is None
    environment.open_db(b"meta", create=True)
    with pytest.raises(CorruptGenerationError):
        Delta.open(tmp_path)
    with DeltaWriter(tmp_path) as writer:
        append(writer, event(1, 10))
    assert Delta.open(tmp_path) is not None
