import dataclasses
import shutil

import numpy as np
import pytest

from store import BehaviorStore, CorruptGenerationError, CorruptRecordError, parse_id, rebuild, verify
from store.base.files import BaseWriter
from store.base.meta import read_meta
from store.operations.verify.block import BlockAudit
from store.operations.verify.records import find_columns_problem, find_extras_problem
from store.publishing.generation import GenerationWriter, current_name, open_generation
from store.records.codec import decode_extras, decode_user, encode_user
from store.taxonomy.resolve import NodeResolver
from store.types import Section, UserExtras
from tests.worlds import living, sample
from tests.worlds.blocks import block_of_records
from tests.worlds.datasets import build_store, write_table

ANNA = parse_id("anna")


@pytest.fixture
def root(tmp_path):
    return build_store(tmp_path, **sample.tables())


@pytest.fixture
def snapshot(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


def records_of(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        return {user: bytes(record) for user, record in snapshot.base.records(None, None)}


def forge(root, *, records=None, meta=None, taxonomy=None, tables=None):
    """Publishes a copy of the current generation whose hashes are right and whose content is not."""
    opened = open_generation(root, "store")
    facts = read_meta(opened).model_copy(update=meta or {})
    records = records_of(root) if records is None else records
    store = BehaviorStore.open(root)
    with store.snapshot() as snapshot, GenerationWriter(root, kind="store") as writer:
        (taxonomy or snapshot.taxonomy).save(writer.path / "taxonomy")
        snapshot.items.save(writer.path / "items")
        snapshot.users.save(writer.path / "users")
        snapshot.covers.save(writer.path / "covers")
        shutil.copytree(snapshot.path / "tables", writer.path / "tables")
        for stem, rows in (tables or {}).items():
            write_table(writer.path / "tables", stem, rows)
        with BaseWriter(writer.path / "base") as base:
            base.put_block(block_of_records(records))
        writer.meta.update(facts.model_dump(mode="json"))
        writer.publish()


def test_a_sound_store_verifies(root):
    report = verify(root)
    assert (report.num_users, report.num_behaviors, report.num_unmapped) == (2, 7, 1)
    assert [(one.domain, one.num_categories, one.num_bridged) for one in report.coverage] == [("content", 3, 2)]
    forge(root)
    assert verify(root).digest == report.digest


def test_live_events_are_verified_and_counted_with_the_rest(tmp_path):
    root = living.build(tmp_path)
    report = verify(root)
    assert report.num_behaviors == len(living.BEHAVIORS) + len(living.LIVE) - 1
    assert report.num_users == 4
    assert report.delta is not None
    assert (report.delta.num_events, report.delta.num_unmerged, report.delta.num_tombstones) == (4, 4, 1)
    assert report.delta.last_sequence == 5
    rebuild(root)
    after = verify(root)
    assert (after.digest, after.num_behaviors) == (report.digest, report.num_behaviors)
    assert after.delta is not None
    assert after.delta.num_unmerged == 0


def test_an_older_generation_can_be_verified(tmp_path):
    root = build_store(tmp_path, **living.tables(behaviors=living.BEHAVIORS[:4]))
    old = current_name(root, "store")
    living.append(root, living.LIVE)
    rebuild(root)
    report = verify(root, old)
    assert report.generation == old
    assert report.delta is not None
    assert report.delta.num_unmerged == len(living.LIVE)


def test_progress_ends_at_one(root):
    seen = []
    verify(root, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_changed_byte_in_a_record_is_found(root):
    records = {user: bytearray(record) for user, record in records_of(root).items()}
    records[ANNA][-1] ^= 1
    forge(root, records={user: bytes(record) for user, record in records.items()})
    with pytest.raises(CorruptRecordError, match=f"user {ANNA}: a record does not match its checksum"):
        verify(root)


def test_a_lost_user_is_found(root):
    forge(root, records={7: records_of(root)[7]})
    with pytest.raises(CorruptGenerationError, match="users: 1, the manifest says 2"):
        verify(root)


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"num_behaviors": 8}, "behaviors: 7, the manifest says 8"),
        ({"num_by_domain": (4, 3)}, r"behaviors by domain: \(3, 4\)"),
        ({"num_unmapped": 0}, "unmapped behaviors: 1"),
        ({"streams": ((0, 0), (1, 0), (1, 1))}, "streams: "),
        ({"first_ms": 9}, "time of the oldest behavior: 10, the manifest says 9"),
        ({"last_ms": 51}, "time of the newest behavior: 50"),
        ({"num_items": 5}, r"taxonomy: \(4, 4\) categories and items"),
        ({"scenes": ("", "feed")}, "a scene is outside the vocabulary"),
        ({"streams": ((0, 0),)}, "of no known stream"),
        ({"behavior_fields": (("device", "id"),)}, "0 side-info fields, the manifest names 1"),
        ({"taxonomy_fingerprint": "0" * 64}, "it does not match the fingerprint"),
    ],
)
def test_a_manifest_that_says_otherwise_is_found(root, meta, problem):
    forge(root, meta=meta)
    with pytest.raises(CorruptGenerationError, match=problem):
        verify(root)


def test_a_damaged_taxonomy_is_found(root, snapshot):
    depth = snapshot.taxonomy.depth.copy()
    depth[0] = 9
    forge(root, taxonomy=dataclasses.replace(snapshot.taxonomy, depth=depth))
    with pytest.raises(CorruptGenerationError, match="taxonomy: a subtree is not inside"):
        verify(root)


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"taxonomy": [{"category": "1", "parent": None}]}, "node 2 is no category of the ads' tree"),
        ({"taxonomy": [{"category": "1", "parent": "5"}]}, "parent 5 of category 1"),
        ({"bridges": [{"domain": "content", "category": "100", "node": "1"}]}, "make another one"),
        ({"items": [{"item": "70", "category": "1"}]}, "make another one"),
    ],
)
def test_tables_that_do_not_fit_the_taxonomy_are_found(root, tables, problem):
    forge(root, tables=tables)
    with pytest.raises(CorruptGenerationError, match=problem):
        verify(root)


def test_an_item_or_category_that_leads_elsewhere_is_found(root, snapshot):
    record = records_of(root)[ANNA]
    columns, extras = decode_user(record), decode_extras(record)
    for columns_change, extras_change in (
        ({"item": np.where(columns.item == 70, 71, columns.item).astype(columns.item.dtype)}, {}),
        ({}, {"category": np.full(5, 9, extras.category.dtype)}),
    ):
        changed = encode_user(
            dataclasses.replace(columns, **columns_change), dataclasses.replace(extras, **extras_change)
        )
        forge(root, records={**records_of(root), ANNA: changed})
        with pytest.raises(CorruptRecordError, match=f"user {ANNA}: item and category of a row lead to another node"):
            verify(root)
        forge(root, records={**records_of(root), ANNA: record})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"order": [0, 0, 3, 2, 1]}, "no permutation"),
        ({"order": [0, 9, 3, 2, 1]}, "no permutation"),
        ({"rank": [4, 0, 3, 2, 1]}, "not the inverse"),
        ({"timestamp_ms": [99, 50, 30, 20, 20]}, "not in order"),
        ({"node": [5, 2, 4, 1, 3]}, "not ordered by node and time"),
        ({"node": [2, 2, 4, 1, 99]}, "outside the taxonomy"),
        ({"scene": [0, 0, 0, 0, 9]}, "outside the vocabulary"),
    ],
)
def test_columns_that_break_their_order_are_found_by_both_checks(root, snapshot, change, problem):
    ((name, values),) = change.items()
    record = records_of(root)[ANNA]
    columns, extras = decode_user(record), decode_extras(record)
    assert find_columns_problem(columns, snapshot.meta, snapshot.taxonomy) is None
    damaged = dataclasses.replace(columns, **{name: np.array(values, getattr(columns, name).dtype)})
    assert problem in find_columns_problem(damaged, snapshot.meta, snapshot.taxonomy)
    found = audit_of(snapshot).find_problem([memoryview(records_of(root)[7]), memoryview(encode_user(damaged, extras))])
    assert found is not None
    assert found[0] == 1
    assert problem in found[1]


def audit_of(snapshot):
    resolver = NodeResolver(snapshot.taxonomy, snapshot.meta.domains)
    return BlockAudit(snapshot.meta, snapshot.taxonomy, resolver)


def test_sections_of_no_known_stream_are_found(root, snapshot):
    record = records_of(root)[ANNA]
    columns = dataclasses.replace(decode_user(record), sections=(Section(domain=1, action=0, start=0, stop=5),))
    assert "no known stream" in find_columns_problem(columns, snapshot.meta, snapshot.taxonomy)
    found = audit_of(snapshot).find_problem([memoryview(encode_user(columns, decode_extras(record)))])
    assert found == (0, "the sections are not in order, or of no known stream")


def test_extras_that_do_not_fit_the_manifest_are_found(root, snapshot):
    record = records_of(root)[ANNA]
    columns, extras = decode_user(record), decode_extras(record)
    resolver = NodeResolver(snapshot.taxonomy, snapshot.meta.domains)
    fields = snapshot.meta.model_copy(update={"behavior_fields": (("stars", "number"),)})
    for meta, changed, problem in (
        (snapshot.meta, {"key": np.zeros(5, np.uint64)}, "the manifest says that there are none"),
        (snapshot.meta, {"fields": (np.zeros(5, np.uint8),)}, "1 side-info fields, the manifest names 0"),
        (fields, {"fields": (np.zeros(5, np.uint8),)}, "side-info field stars is no number"),
        (fields, {"fields": (np.zeros(4, np.float32),)}, "differ in length"),
    ):
        more: UserExtras = dataclasses.replace(extras, **changed)
        assert problem in find_extras_problem(columns, more, meta, resolver)
        if "length" not in problem:
            audit = BlockAudit(meta, snapshot.taxonomy, resolver)
            found = audit.find_problem([memoryview(encode_user(columns, more))])
            assert found is not None
            assert problem in found[1]
    assert find_extras_problem(columns, extras, snapshot.meta, resolver) is None
