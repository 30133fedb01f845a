import hashlib
import os
import random

import lmdb
import pytest

from store.delta.integrity.page_check import find_head_damage, find_page_damage
from tests.worlds.datasets import bits_of_structure

LONG = b"long"


def value_of(key, size=48):
    return (hashlib.sha256(key + bytes([size % 251])).digest() * (size // 32 + 1))[:size]


def check(nodes):
    """Every value follows from its key, so that a flip in either is found."""
    for row in range(len(nodes)):
        value = nodes.value(row)
        if value != value_of(nodes.key(row), len(value)):
            return "a value"
    return None


def damage_of(folder, transaction):
    file = folder / "data.mdb"
    return find_head_damage(file) or find_page_damage(file, transaction, {b"a": check, LONG: check}, frozenset({LONG}))


def scribble(environment, rng, count):
    """Puts, deletes and drops at random, in some transactions of which some are given up."""
    databases = [environment.open_db(b"a"), environment.open_db(LONG)]
    readers = []
    for _ in range(count):
        transaction = environment.begin(write=True)
        for _ in range(rng.choice((1, 10, 300, 1500))):
            at = rng.randrange(2)
            key = rng.randrange(2000).to_bytes(16, "big") if at == 0 else b"%d" % rng.randrange(2000)
            key = key.ljust(rng.choice((16, 16, 40, 300)), b"x") if at else key
            if rng.random() < 0.7:
                size = rng.choice((48, 48, 48, 2, 64, 1900, 2100, 9000)) if rng.random() < 0.1 else 48
                transaction.put(key, value_of(key, size), db=databases[at])
            else:
                transaction.delete(key, db=databases[at])
        if rng.random() < 0.1:
            transaction.drop(databases[at], delete=False)
        transaction.commit() if rng.random() < 0.9 else transaction.abort()
        if rng.random() < 0.2:
            readers.append(environment.begin())
        if len(readers) > 2:
            readers.pop(0).abort()
        yield


@pytest.mark.parametrize("seed", range(4))
def test_whatever_lmdb_writes_is_sound(tmp_path, seed):
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 28, sync=False) as environment:
        for _ in scribble(environment, random.Random(seed), 25):
            with environment.begin() as transaction:
                assert damage_of(tmp_path, transaction.id()) is None


def content_of(folder):
    with lmdb.open(str(folder), max_dbs=2, readonly=True, lock=False) as environment:
        databases = [environment.open_db(name, create=False) for name in (b"a", LONG)]
        with environment.begin() as transaction:
            return [list(transaction.cursor(database)) for database in databases]


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path):
    rng = random.Random(1)
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 24, sync=False) as environment:
        for _ in scribble(environment, rng, 8):
            pass
        number = environment.info()["last_txnid"]
    expected = content_of(tmp_path)
    file = tmp_path / "data.mdb"
    data = file.read_bytes()
    structure = bits_of_structure(data)
    found = 0
    for bit in [*rng.sample(structure, 160), *(rng.randrange(len(data) * 8) for _ in range(40))]:
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(broken)
        if damage_of(tmp_path, number):
            found += 1
            continue
        assert content_of(tmp_path) == expected
    assert found > 30


def test_a_file_that_was_cut_short_is_found(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 24, sync=False) as environment:
        for _ in scribble(environment, random.Random(3), 4):
            pass
        number = environment.info()["last_txnid"]
    file = tmp_path / "data.mdb"
    for size in range(file.stat().st_size - 4096, 0, -40_000):
        os.truncate(file, size)
        assert damage_of(tmp_path, number)


def test_no_transaction_but_the_last_two_can_be_looked_at(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=1 << 24, sync=False) as environment:
        list(scribble(environment, random.Random(4), 5))
    assert damage_of(tmp_path, 1) == "it has no meta page of transaction 1"
