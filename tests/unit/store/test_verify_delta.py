import numpy as np
import pytest

from store import parse_id
from store.delta.delta import Delta
from store.delta.layout import META_SEQUENCE, META_TRIMMED, NUMBER, Tombstone, event_key, split_event_keys
from store.delta.rows import encode_rows
from store.errors import CorruptRecordError
from store.keys import mix_one, user_key
from store.operations.verify.delta import audit_delta
from tests.worlds import living, sample
from tests.worlds.datasets import build_store

ANNA = parse_id("anna")


@pytest.fixture
def root(tmp_path):
    return living.build(tmp_path)


class Tampering:
    """Writes into a delta behind its back."""

    def __init__(self, root):
        self.delta = Delta.open(root)
        self.databases = self.delta.databases

    def put(self, database, key, value):
        with self.delta.environment.begin(database, write=True) as transaction:
            transaction.put(key, value)

    def events(self):
        with self.delta.environment.begin(self.databases.events) as transaction:
            return list(transaction.cursor().iternext())

    def rows(self, user):
        with self.delta.begin() as transaction:
            return transaction.rows(user)

    def forge(self, number, user, **changes):
        """Writes an event of Anna again under a sequence number, changed, with a right checksum."""
        row = self.rows(ANNA).take(slice(0, 1))
        for name, value in {"sequence": number, **changes}.items():
            getattr(row, name).setflags(write=True)
            getattr(row, name)[0] = value
        keys = np.array([mix_one(user)], np.uint64)
        self.put(self.databases.events, event_key(number, user_key(user)), encode_rows(keys, row)[0])


def test_a_sound_delta_is_counted(root, tmp_path):
    audit = audit_delta(root, 0)
    assert audit is not None
    assert (audit.num_events, audit.num_tombstones, audit.last_sequence, audit.num_unmerged) == (4, 1, 5, 4)
    audit = audit_delta(root, 3)
    assert audit is not None
    assert audit.num_unmerged == 1
    assert audit_delta(tmp_path, 0) is None


def test_a_delta_of_nothing_is_sound(tmp_path):
    root = build_store(tmp_path, **sample.tables())
    audit = audit_delta(root, 0)
    assert audit is None or audit.num_events == 0


def grave(user, sequence):
    return Tombstone(sequence=sequence, deleted_ms=5).pack(user_key(user))


def refused(root, match, merged=0):
    with pytest.raises(CorruptRecordError, match=match):
        audit_delta(root, merged)


def test_a_flipped_bit_in_any_row_is_found(root):
    tampering = Tampering(root)
    for key, value in tampering.events():
        broken = bytearray(value)
        broken[11] ^= 4
        tampering.put(tampering.databases.events, key, bytes(broken))
        refused(root, "damaged")
        tampering.put(tampering.databases.events, key, value)
    assert audit_delta(root, 0) is not None


def test_a_row_under_the_key_of_another_is_found(root):
    tampering = Tampering(root)
    key, value = tampering.events()[0]
    users, _ = split_event_keys([key])
    tampering.put(tampering.databases.events, event_key(4, int(users[0]).to_bytes(8, "big")), value)
    refused(root, "sequence number 4 does not fit its key")


def test_a_number_not_given_yet_is_found(root):
    tampering = Tampering(root)
    tampering.forge(9, ANNA)
    refused(root, "sequence number 9 does not fit")


def test_words_that_are_not_there_are_found(root):
    tampering = Tampering(root)
    tampering.put(tampering.databases.meta, META_SEQUENCE, NUMBER.pack(9))
    tampering.forge(9, ANNA, scene=77)
    refused(root, "sequence number 9 does not fit its key or the words")


def test_a_number_given_twice_is_found(root):
    tampering = Tampering(root)
    tampering.forge(1, parse_id("other"))
    refused(root, "two events have sequence number 1")


def test_one_event_twice_is_found(root):
    tampering = Tampering(root)
    tampering.put(tampering.databases.meta, META_SEQUENCE, NUMBER.pack(9))
    tampering.forge(9, ANNA)
    refused(root, "sequence numbers 1 and 9 are one")
    tampering.forge(9, ANNA, item=1234)
    assert audit_delta(root, 0) is not None
    tampering.forge(8, ANNA, key=5)
    assert audit_delta(root, 0) is not None
    tampering.forge(7, ANNA, key=5, item=99)
    refused(root, "sequence numbers 7 and 8 are one")


def test_an_event_from_before_the_deletion_is_found(root):
    tampering = Tampering(root)
    tampering.put(tampering.databases.deleted, user_key(ANNA), grave(ANNA, 3))
    refused(root, f"an event of deleted user {ANNA} is left")
    tampering.put(tampering.databases.deleted, user_key(ANNA), grave(ANNA, 0))
    assert audit_delta(root, 0) is not None


def test_a_deletion_with_a_number_not_given_yet_is_found(root):
    tampering = Tampering(root)
    tampering.put(tampering.databases.deleted, user_key(404), grave(404, 99))
    refused(root, "a deletion has sequence number 99, the last one given is 5")


def test_a_generation_that_lacks_what_was_trimmed_is_found(root):
    tampering = Tampering(root)
    tampering.put(tampering.databases.meta, META_TRIMMED, NUMBER.pack(2))
    refused(root, "trimmed up to 2, the generation has merged only up to 1", merged=1)
    assert audit_delta(root, 2) is not None
