"""A user of a snapshot is found once, whatever is asked of it."""

import numpy as np
import pytest

from store import BehaviorStore, parse_id
from store.errors import FieldError
from tests.worlds import living

ANNA = parse_id("anna")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    root = living.build(tmp_path_factory.mktemp("view"))
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


@pytest.mark.parametrize("name", ["anna", "7", "bo", "new", "nobody"])
def test_everything_asked_of_a_view_costs_one_look_up(snapshot, monkeypatch, name):
    counts = living.count_lookups(monkeypatch)
    view = snapshot.user(parse_id(name))
    for _ in range(2):
        count = view.columns.num_behaviors
        assert len(view.history()) == len(view.events()) == count
        assert len(view.behavior_fields(np.arange(count), ("stars",))["stars"]) == count
        assert view.fields.keys() == {"age", "likes", "size"}
    assert {kind: counts.pop(kind) for kind in ("record", "tombstone", "rows")} == dict.fromkeys(
        ("record", "tombstone", "rows"), 1
    )
    assert set(counts.values()) <= {1}, "a record is decoded twice"


def test_nothing_is_decoded_before_it_is_needed(snapshot, monkeypatch):
    counts = living.count_lookups(monkeypatch)
    assert snapshot.user(ANNA).fields["age"].tolist() == [parse_id("35-44")]
    assert not counts["decode_user"]
    assert not counts["decode_extras"]
    columns = snapshot.user(ANNA).columns
    assert not counts["decode_extras"]
    assert columns.num_behaviors


def test_columns_of_a_user_without_live_events_are_views_of_the_record(snapshot):
    assert not any(snapshot.user(7).columns.timestamp_ms.flags[name] for name in ("OWNDATA", "WRITEABLE"))


def test_a_deleted_user_keeps_neither_behaviors_nor_fields(snapshot):
    view = snapshot.user(parse_id("bo"))
    assert view.columns.num_behaviors == len(view.history()) == len(view.events()) == 0


@pytest.mark.parametrize("as_of_ms", [0, 1, 15, 20, 21, 59, 60, 61, None])
def test_behaviors_at_positions_are_those_of_the_history(snapshot, as_of_ms):
    view = snapshot.user(ANNA)
    columns, history = view.columns, view.history(as_of_ms=as_of_ms)
    count = columns.num_behaviors if as_of_ms is None else columns.num_before(as_of_ms)
    assert history.timestamp_ms.tolist() == view.events().timestamp_ms[:count].tolist()
    assert count == np.count_nonzero(columns.timestamp_ms < (2**60 if as_of_ms is None else as_of_ms))
    picked = view.behaviors(np.arange(count)[::-1])
    assert picked.item.tolist() == history.item[::-1].tolist()
    assert picked.category.tolist() == history.category[::-1].tolist()


def test_an_unknown_field_is_refused_before_anything_is_read(snapshot):
    with pytest.raises(FieldError, match=r"behavior_fields\[1\]: 'os' is no side-info field"):
        snapshot.user(404).behavior_fields(np.arange(0), ("stars", "os"))
