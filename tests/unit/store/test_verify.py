import dataclasses

import numpy as np
import pytest

from store import BehaviorStore, CorruptGenerationError, CorruptRecordError, parse_id, verify
from store.base import BaseWriter
from store.codec import encode_user
from store.generation import GenerationWriter, open_generation
from store.meta import read_meta
from store.types import Section
from store.verify import find_columns_problem
from tests.helpers import build_store
from tests.unit.store import sample

ANNA = parse_id("anna")


@pytest.fixture
def root(tmp_path):
    return build_store(tmp_path, **sample.tables())


def forge(root, *, records=None, meta=None, taxonomy=None):
    """Publishes a copy of the current generation whose hashes are right and whose content is not."""
    opened = open_generation(root, "store")
    facts = read_meta(opened).model_copy(update=meta or {})
    store = BehaviorStore.open(root)
    with store.snapshot() as snapshot, GenerationWriter(root, kind="store") as writer:
        (taxonomy or snapshot.taxonomy).save(writer.path / "taxonomy")
        snapshot.items.save(writer.path / "items")
        snapshot.users.save(writer.path / "users")
        snapshot.covers.save(writer.path / "covers")
        with BaseWriter(writer.path / "base") as base:
            base.put_users(records or [(user, encode_user(snapshot.columns(user))) for user in snapshot.user_ids()])
        writer.meta.update(facts.model_dump(mode="json"))
        writer.publish()


def test_a_sound_store_verifies(root):
    report = verify(root)
    assert (report.num_users, report.num_behaviors) == (2, 7)
    forge(root)
    assert verify(root).num_behaviors == 7


def test_a_changed_byte_in_a_record_is_found(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        records = [(user, bytearray(encode_user(snapshot.columns(user)))) for user in snapshot.user_ids()]
    records[1][1][-1] ^= 1
    forge(root, records=[(user, bytes(record)) for user, record in records])
    with pytest.raises(CorruptRecordError, match=f"user {ANNA}: a record does not match its checksum"):
        verify(root)


def test_a_lost_user_is_found(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        records = [(7, encode_user(snapshot.columns(7)))]
    forge(root, records=records)
    with pytest.raises(CorruptGenerationError, match="2 behaviors of 1 users, the manifest says 7 of 2"):
        verify(root)


def test_another_taxonomy_is_found(root):
    forge(root, meta={"taxonomy_fingerprint": "0" * 64})
    with pytest.raises(CorruptGenerationError, match="fingerprint"):
        verify(root)


def test_a_damaged_taxonomy_is_found(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        depth = snapshot.taxonomy.depth.copy()
        depth[0] = 9
        forge(root, taxonomy=dataclasses.replace(snapshot.taxonomy, depth=depth))
    with pytest.raises(CorruptGenerationError, match="taxonomy: a subtree is not inside"):
        verify(root)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"order": [0, 0, 3, 2, 1]}, "no permutation"),
        ({"rank": [4, 0, 3, 2, 1]}, "not the inverse"),
        ({"timestamp_ms": [99, 50, 30, 20, 20]}, "not in order"),
        ({"node": [5, 2, 4, 1, 3]}, "not ordered by node and time"),
        ({"node": [2, 2, 4, 1, 99]}, "outside the taxonomy"),
        ({"scene": [0, 0, 0, 0, 9]}, "outside the vocabulary"),
    ],
)
def test_columns_that_break_their_order_are_found(root, change, problem):
    ((name, values),) = change.items()
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        columns = snapshot.columns(ANNA)
        assert find_columns_problem(columns, snapshot) == ""
        damaged = dataclasses.replace(columns, **{name: np.array(values, getattr(columns, name).dtype)})
        assert problem in find_columns_problem(damaged, snapshot)
        swapped = dataclasses.replace(columns, sections=(Section(domain=1, action=0, start=0, stop=5),))
        assert "no known stream" in find_columns_problem(swapped, snapshot)
