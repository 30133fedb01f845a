import numpy as np
import pytest

from store.base.tables import CoverTable, FieldTable
from store.errors import CorruptGenerationError, InputError
from store.lists import Lists
from store.types import NO_ID


def u64(*ids):
    return np.array(ids, np.uint64)


@pytest.fixture
def fields():
    return FieldTable(
        ids=u64(3, 7),
        fields={
            "brand": u64(9, NO_ID),
            "price": np.array([1.5, np.nan], np.float32),
            "tags": Lists(values=u64(5, 8, 5), offsets=np.array([0, 2, 3])),
        },
    )


@pytest.fixture
def covers():
    return CoverTable(ids=u64(3, 7), offsets=np.array([0, 2, 3]), values=u64(10, 11, 12))


def test_lookup_gives_missing_where_unknown(fields):
    found = fields.lookup(u64(7, 1, 3, 3, 9))
    assert found["brand"].tolist() == [NO_ID, NO_ID, 9, 9, NO_ID]
    assert found["price"].tolist()[2:4] == [1.5, 1.5]
    assert np.isnan(found["price"][[0, 1, 4]]).all()
    assert found["price"].dtype == np.float32
    assert (found["tags"].values.tolist(), found["tags"].offsets.tolist()) == ([5, 5, 8, 5, 8], [0, 1, 1, 3, 5, 5])


def test_an_empty_table_knows_nothing():
    empty = FieldTable(ids=u64(), fields={"brand": u64(), "tags": Lists.empty(0, np.uint64)})
    assert empty.lookup(u64(1, 2))["tags"].offsets.tolist() == [0, 0, 0]
    assert empty.lookup(u64(1, 2))["brand"].tolist() == [NO_ID, NO_ID]
    assert empty.lookup(u64())["brand"].tolist() == []
    nothing = CoverTable(ids=u64(), offsets=np.zeros(1, np.int64), values=u64())
    values, offsets = nothing.covers(u64(1, 2))
    assert (values.tolist(), offsets.tolist()) == ([], [0, 0, 0])


def test_covers_are_ragged_lists(covers):
    values, offsets = covers.covers(u64(7, 5, 3, 7))
    assert values.tolist() == [12, 10, 11, 12]
    assert offsets.tolist() == [0, 1, 1, 3, 4]
    values, offsets = covers.covers(u64())
    assert (values.tolist(), offsets.tolist()) == ([], [0])


def test_saved_tables_load_the_same(fields, covers, tmp_path):
    fields.save(tmp_path / "f")
    covers.save(tmp_path / "c")
    assert fields.lists == ("tags",)
    loaded = FieldTable.load(tmp_path / "f", ["brand", "price", "tags"], ["tags"])
    assert loaded.lookup(u64(3))["tags"].values.tolist() == [5, 8]
    assert loaded.lookup(u64(3))["brand"].tolist() == [9]
    assert CoverTable.load(tmp_path / "c").covers(u64(3))[0].tolist() == [10, 11]


def test_lengths_must_fit(fields, covers, tmp_path):
    with pytest.raises(InputError, match="brand: 1 values for 2 ids"):
        FieldTable(ids=u64(1, 2), fields={"brand": u64(1)})
    fields.save(tmp_path / "f")
    np.save(tmp_path / "f" / "field1.npy", np.zeros(5, np.float32))
    with pytest.raises(CorruptGenerationError, match=r"field1\.npy: 5 values of price"):
        FieldTable.load(tmp_path / "f", ["brand", "price"])
    np.save(tmp_path / "f" / "field2.offsets.npy", np.array([0, 2, 9]))
    with pytest.raises(CorruptGenerationError, match=r"field2\.offsets\.npy: offsets: must run from 0 to 3"):
        FieldTable.load(tmp_path / "f", ["brand", "price", "tags"], ["tags"])
    np.save(tmp_path / "f" / "field2.offsets.npy", np.array([0, 3]))
    np.save(tmp_path / "f" / "field1.npy", np.zeros(2, np.float32))
    with pytest.raises(CorruptGenerationError, match=r"field2\.npy: 1 values of tags for 2 ids"):
        FieldTable.load(tmp_path / "f", ["brand", "price", "tags"], ["tags"])
    covers.save(tmp_path / "c")
    np.save(tmp_path / "c" / "values.npy", u64(1))
    with pytest.raises(CorruptGenerationError, match="do not fit"):
        CoverTable.load(tmp_path / "c")
