"""The audit of whole blocks finds what the plain checks find, user by user."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import BehaviorStore
from store.operations.verify.block import BlockAudit
from store.operations.verify.records import find_columns_problem, find_extras_problem
from store.records.codec import decode_extras, decode_user, encode_user
from store.records.rows import stream_of_rows
from store.taxonomy.resolve import NodeResolver
from store.types import Section
from tests.worlds import living
from tests.worlds.datasets import build_store

COLUMNS = ("node", "timestamp_ms", "item", "scene", "rank", "order")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    root = build_store(tmp_path_factory.mktemp("store"), **living.tables())
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


def plain(snapshot, record):
    columns, extras = decode_user(record), decode_extras(record)
    resolver = NodeResolver(snapshot.taxonomy, snapshot.meta.domains)
    return find_columns_problem(columns, snapshot.meta, snapshot.taxonomy) or find_extras_problem(
        columns, extras, snapshot.meta, resolver
    )


@st.composite
def changes(draw):
    """Gives how to change a record: a value of a column, or a section."""
    what = draw(st.sampled_from([*COLUMNS, "category", "section"]))
    return what, draw(st.integers(0, 9)), draw(st.integers(0, 12))


def changed(record, change):
    columns, extras = decode_user(record), decode_extras(record)
    what, row, value = change
    row %= columns.num_behaviors
    if what == "section":
        at = row % len(columns.sections)
        sections = list(columns.sections)
        old = sections[at]
        sections[at] = Section(domain=value % 3, action=value // 3 % 3, start=old.start, stop=old.stop)
        return encode_user(dataclasses.replace(columns, sections=tuple(sections)), extras)
    owner = extras if what == "category" else columns
    values = getattr(owner, what).copy()
    values[row] = value
    owner = dataclasses.replace(owner, **{what: values})
    return encode_user(columns, owner) if what == "category" else encode_user(owner, extras)


@given(st.lists(st.tuples(st.integers(0, 20), st.one_of(st.none(), changes())), min_size=1, max_size=5))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_and_single_records_are_judged_alike(snapshot, picks):
    sound = [bytes(record) for _, record in snapshot.base.records(None, None)]
    records = [sound[at % len(sound)] for at, _ in picks]
    records = [
        record if change is None else changed(record, change)
        for record, (_, change) in zip(records, picks, strict=True)
    ]
    problems = [plain(snapshot, record) for record in records]
    resolver = NodeResolver(snapshot.taxonomy, snapshot.meta.domains)
    audit = BlockAudit(snapshot.meta, snapshot.taxonomy, resolver)
    found = audit.find_problem([memoryview(record) for record in records])
    if found is None:
        assert not any(problems)
        columns = [decode_user(record) for record in records]
        assert audit.num_rows == sum(one.num_behaviors for one in columns)
        assert audit.num_unmapped == sum(int((one.node == snapshot.taxonomy.unmapped).sum()) for one in columns)
        streams = np.concatenate([stream_of_rows(one) for one in columns])
        assert np.array_equal(audit.by_stream, np.bincount(streams, minlength=1 << 16))
        assert audit.first_ms == min(int(one.timestamp_ms.min()) for one in columns)
        assert audit.last_ms == max(int(one.timestamp_ms.max()) for one in columns)
    else:
        at, problem = found
        assert problems[at] == problem != ""
