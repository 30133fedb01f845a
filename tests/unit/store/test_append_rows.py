import numpy as np
import pytest
import xxhash

from store.dataset.json_rows import parse_rows
from store.errors import InputError
from store.events import EventBatch
from store.types import NO_ID

GOOD = {"user": "anna", "item": 5, "category": "7", "domain": "ads", "action": "click", "timestamp_ms": 12}


def reason(kinds=None, **changes):
    batch = parse_rows([GOOD, {**GOOD, **changes}, GOOD], kinds)
    assert set(batch.refused) <= {1}
    assert batch.user[[0, 2]].tolist() == [xxhash.xxh3_64_intdigest(b"anna")] * 2
    return batch.refused.get(1)


def test_rows_become_columns():
    batch = parse_rows([{**GOOD, "scene": "top", "event_id": "e"}, {**GOOD, "user": 3, "category": None}])
    anna = xxhash.xxh3_64_intdigest(b"anna")
    assert batch.user.tolist() == [anna, 3]
    assert batch.item.tolist() == [5, 5]
    assert batch.category.tolist() == [7, NO_ID]
    assert batch.timestamp_ms.tolist() == [12, 12]
    assert batch.key.tolist() == [xxhash.xxh3_64_intdigest(b"e"), NO_ID]
    assert (batch.domain, batch.action, batch.scene) == (["ads", "ads"], ["click", "click"], ["top", ""])
    assert batch.names == {"user": {anna: "anna"}, "item": {}, "category": {}, "value": {}}
    assert batch.fields == {}
    assert batch.refused == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user": None}, "user: missing"),
        ({"user": ""}, "user: an id must not be empty"),
        ({"user": True}, "user: True is no id"),
        ({"user": 1.0}, "user: 1.0 is no id"),
        ({"user": -1}, "user: -1 is outside"),
        ({"user": "-1"}, "user: '-1' is no id"),
        ({"category": "-12"}, "category: '-12' is no id"),
        ({"user": NO_ID}, "is outside 0 .. 2"),
        ({"user": str(NO_ID)}, "is outside 0 .. 2"),
        ({"user": 10**50}, "is outside 0 .. 2"),
        ({"user": "\ud800"}, "user: .* is no text in UTF-8"),
        ({"item": [1]}, r"item: \[1\] is no id"),
        ({"category": {}}, "category: {} is no id"),
        ({"event_id": 0.5}, "event_id: 0.5 is no id"),
        ({"timestamp_ms": None}, "timestamp_ms: missing"),
        ({"timestamp_ms": "5"}, "timestamp_ms: '5' is no integer"),
        ({"timestamp_ms": True}, "timestamp_ms: True is no integer"),
        ({"timestamp_ms": -1}, "timestamp_ms: -1 is outside"),
        ({"timestamp_ms": 10**16}, "timestamp_ms: 10000000000000000 is outside"),
        ({"domain": ""}, "domain: missing"),
        ({"action": None}, "action: missing"),
        ({"domain": 5}, "domain: 5 is no string"),
        ({"scene": 5}, "scene: 5 is no string"),
        ({"scene": "\udfff"}, "scene: .* is no text in UTF-8"),
    ],
)
def test_a_bad_value_spoils_only_its_row(changes, why):
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(reason(**changes))


def test_what_is_no_object_is_refused():
    batch = parse_rows([None, [], 5, GOOD])
    assert batch.refused == dict.fromkeys(range(3), "the row is no JSON object")
    assert batch.item[3] == 5


def test_further_columns_are_fields_of_the_kind_of_their_first_value():
    batch = parse_rows([{**GOOD, "os": None}, {**GOOD, "os": "7", "price": 2}, {**GOOD, "os": 8, "price": True}])
    np.testing.assert_array_equal(batch.fields["os"], np.array([NO_ID, 7, 8], np.uint64), strict=True)
    np.testing.assert_array_equal(batch.fields["price"], np.array([np.nan, 2, 1], np.float32), strict=True)
    assert batch.names["item"] == {}


def test_fields_of_a_known_kind():
    kinds = (("os", "id"), ("price", "number"))
    linux = parse_rows([{**GOOD, "os": "linux"}], kinds)
    assert linux.names["value"] == {int(linux.fields["os"][0]): "linux"}
    assert reason(kinds, os=5, price=1.5) is None
    assert reason(kinds, os=None, price=None) is None
    assert reason(kinds, os=5.5) == "os: 5.5 is no id"
    assert reason(kinds, price="5") == "price: '5' is no number"
    assert reason(kinds, price=float("inf")) == "price: inf is no finite float32"
    assert reason(kinds, price=-(10**400)).endswith("is no finite float32")
    assert reason(kinds, colour="red") == "colour: is no column of this store's behaviors"
    assert reason(kinds, colour=None) is None
    assert np.isnan(parse_rows([{**GOOD, "price": float("nan")}], kinds).fields["price"][0])


def test_a_batch_checks_its_columns():
    good = parse_rows([GOOD])
    columns = {name: getattr(good, name) for name in EventBatch.__slots__}
    with pytest.raises(InputError, match="user: must be uint64, is int64"):
        EventBatch(**{**columns, "user": np.zeros(1, np.int64)})
    with pytest.raises(InputError, match="scene: 2 values for 1 events"):
        EventBatch(**{**columns, "scene": ["", ""]})
    with pytest.raises(InputError, match="price: must be uint64 or float32, is float64"):
        EventBatch(**{**columns, "fields": {"price": np.zeros(1)}})
    with pytest.raises(InputError, match="price: 2 values for 1 events"):
        EventBatch(**{**columns, "fields": {"price": np.zeros(2, np.float32)}})
