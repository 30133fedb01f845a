import gc
import shutil

import numpy as np
import pytest

from store.base.files import FILES, RECORDS_FILE, BaseReader, BaseWriter
from store.errors import CorruptRecordError, MissingGenerationError, StoreIOError
from store.keys import mix_one, user_key
from store.records.block_codec import encode_block
from store.records.codec import decode_user, encode_user
from tests.worlds.blocks import block_of_records, random_block, user_of


@pytest.fixture
def block():
    return random_block([3, 40, 1, 7, 300, 2], seed=5)


@pytest.fixture
def folder(tmp_path, block):
    with BaseWriter(tmp_path / "base") as writer:
        writer.put_block(encode_block(block))
        writer.put_names("category", [(1, "food"), (2, "fruit")])
        writer.put_names("item", [(70, "apple")])
        writer.put_names("user", [])
        writer.put_names("value", [(5, "Bücher")])
    return tmp_path / "base"


def test_every_record_is_found_and_whole(folder, block):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    transaction = BaseReader(folder).begin()
    assert len(list(transaction.user_ids())) == len(block.users)
    for at, user in enumerate(block.users.tolist()):
        assert transaction.record(user) == encode_user(*user_of(block, at))
    assert transaction.record(12345) is None
    transaction.close()
    transaction.close()


def test_users_come_in_the_order_of_their_keys(folder, block):
    transaction = BaseReader(folder).begin()
    users = block.users.tolist()
    assert list(transaction.user_ids()) == users == sorted(users, key=mix_one)
    assert [user for user, _ in transaction.records(None, None)] == users
    assert [bytes(record) for _, record in transaction.records(None, None)] == [
        bytes(record) for _, record in encode_block(block).records()
    ]


def test_ranges_of_keys_are_half_open(folder, block):
    transaction = BaseReader(folder).begin()
    users = block.users.tolist()
    keys = [user_key(user) for user in users]
    bounds = [None, bytes(8), *keys, b"\xff" * 8]
    for first in bounds:
        for end in bounds:
            expected = [
                user
                for user, key in zip(users, keys, strict=True)
                if (first is None or first <= key) and (end is None or key < end)
            ]
            assert [user for user, _ in transaction.records(first, end)] == expected


def test_names_are_found_by_kind(folder):
    transaction = BaseReader(folder).begin()
    assert transaction.name("item", 70) == "apple"
    assert transaction.name("category", 70) is None
    assert transaction.name("value", 5) == "Bücher"
    assert list(transaction.names("category")) == [(1, "food"), (2, "fruit")]
    assert list(transaction.names("item")) == [(70, "apple")]
    assert list(transaction.names("user")) == []
    assert list(transaction.names("value")) == [(5, "Bücher")]


def test_users_may_come_in_several_calls(tmp_path, folder, block):
    records = {user: bytes(encode_user(*user_of(block, at))) for at, user in enumerate(block.users.tolist())}
    users = block.users.tolist()
    with BaseWriter(tmp_path / "other") as writer:
        for part in (users[:2], [], users[2:]):
            writer.put_block(block_of_records({user: records[user] for user in part}))
    assert (tmp_path / "other" / RECORDS_FILE).read_bytes() == (folder / RECORDS_FILE).read_bytes()
    transaction = BaseReader(tmp_path / "other").begin()
    assert [bytes(record) for _, record in transaction.records(None, None)] == list(records.values())


def test_keys_that_do_not_ascend_are_refused(tmp_path):
    first, second = sorted([1, 2], key=mix_one)
    with BaseWriter(tmp_path / "base") as writer:
        writer.put_block(block_of_records({second: b"x" * 8}))
        for user in (first, second):
            with pytest.raises(StoreIOError, match="keys out of order"):
                writer.put_block(block_of_records({user: b"y" * 8}))


def test_a_base_without_users_can_be_read(tmp_path):
    with BaseWriter(tmp_path / "base") as writer:
        writer.put_block(encode_block(random_block([], seed=1)))
    transaction = BaseReader(tmp_path / "base").begin()
    assert list(transaction.user_ids()) == []
    assert transaction.record(1) is None
    assert list(transaction.records(None, None)) == list(transaction.records(bytes(8), None)) == []
    assert list(transaction.user_ids()) == list(transaction.names("user")) == []


def test_an_array_outlives_reader_transaction_and_files(folder, block):
    reader = BaseReader(folder)
    transaction = reader.begin()
    columns = [decode_user(transaction.record(user)) for user in block.users.tolist()]
    transaction.close()
    del reader, transaction
    shutil.rmtree(folder)
    gc.collect()
    for at, found in enumerate(columns):
        np.testing.assert_array_equal(found.node, user_of(block, at)[0].node)


def test_two_readers_of_a_base_are_independent(folder, block):
    one, other = BaseReader(folder), BaseReader(folder)
    first, second = one.begin(), other.begin()
    first.close()
    del one, first
    gc.collect()
    assert second.record(int(block.users[0])) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(MissingGenerationError, match=f"{name}: is not there"):
        BaseReader(folder)


def test_a_place_outside_the_records_is_a_corrupt_record(folder, block):
    """A manifest that was made for these files would not find it; nothing may be read beyond the end."""
    records = folder / RECORDS_FILE
    records.write_bytes(records.read_bytes()[:100])
    transaction = BaseReader(folder).begin()
    for user in block.users.tolist():
        record = transaction.record(user)
        if len(record) < 80 or user == block.users[-1]:
            with pytest.raises(CorruptRecordError):
                decode_user(record)
