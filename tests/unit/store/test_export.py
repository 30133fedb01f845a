import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import BehaviorStore, InputError, ingest, parse_id, verify
from store.errors import CorruptRecordError
from store.operations.digest import digest
from store.operations.export import export
from tests.worlds import living, sample
from tests.worlds.datasets import build_store


@pytest.fixture
def root(tmp_path):
    return living.build(tmp_path)


def export_to(root, folder, **options):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        return export(snapshot, folder, **options), digest(snapshot)[0]


def rows_of(folder):
    return [row for path in sorted(folder.glob("behaviors-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_an_export_ingests_to_the_identical_digest(root, tmp_path):
    report, expected = export_to(root, tmp_path / "out")
    assert report.files == (
        "behaviors-00000.parquet",
        "bridges.parquet",
        "items.parquet",
        "taxonomy.parquet",
        "users.parquet",
    )
    assert (report.num_users, report.num_behaviors) == (4, len(living.BEHAVIORS) + len(living.LIVE) - 1)
    ingest(tmp_path / "out", tmp_path / "again")
    assert verify(tmp_path / "again").digest == expected == verify(root).digest
    export_to(tmp_path / "again", tmp_path / "out again")
    assert rows_of(tmp_path / "out again") == rows_of(tmp_path / "out")


def test_rows_come_with_their_names_words_and_side_info(root, tmp_path):
    export_to(root, tmp_path / "out")
    rows = [row for row in rows_of(tmp_path / "out") if row["user"] == "anna"]
    assert [row["timestamp_ms"] for row in rows] == sorted(row["timestamp_ms"] for row in rows)
    assert rows[0] == {
        "user": "anna",
        "item": "70",  # its name, apple, is only shown for it
        "category": "2",
        "domain": "ads",
        "action": "click",
        "scene": None,
        "timestamp_ms": 10,
        "event_id": 2,
        "device": "7",
        "stars": None,
    }
    devices = [row["device"] for row in rows]
    assert devices[2:] == [None, "phone", "tv", "phone", None]
    assert parse_id(devices[1]) == parse_id("watch")  # the name, or an id that is read as itself
    assert [row["scene"] for row in rows][-2:] == ["top", "side"]
    assert next(row for row in rows if row["timestamp_ms"] == 50)["event_id"] == parse_id("one")


def test_ids_are_text_in_behaviors_as_in_the_tables(tmp_path):
    behaviors = [sample.event(2**63 - 1, 5, None, 1), sample.event(3, 6, 1, 2)]
    root = build_store(tmp_path, behaviors=behaviors, taxonomy=[{"category": 1, "parent": None}])
    export_to(root, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "behaviors-00000.parquet")
    assert [schema.field(name).type for name in ("user", "item", "category")] == [pa.string()] * 3
    assert {row["user"] for row in rows_of(tmp_path / "out")} == {str(2**63 - 1), "3"}
    assert sorted(row["category"] is None for row in rows_of(tmp_path / "out")) == [False, True]


@pytest.mark.parametrize(("row_group_rows", "file_rows", "files"), [(1, 1, 4), (4, 8, 2), (1 << 20, 1 << 24, 1)])
def test_files_and_row_groups_are_bounded_and_say_the_same(root, tmp_path, row_group_rows, file_rows, files):
    export_to(root, tmp_path / "whole")
    report, _ = export_to(root, tmp_path / "out", row_group_rows=row_group_rows, file_rows=file_rows)
    names = [name for name in report.files if name.startswith("behaviors")]
    assert names == [f"behaviors-{number:05}.parquet" for number in range(files)]
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


def test_a_deleted_user_is_not_exported(root, tmp_path):
    living.delete(root, parse_id("anna"))
    export_to(root, tmp_path / "out")
    assert "anna" not in {row["user"] for row in rows_of(tmp_path / "out")}
    assert [row["user"] for row in pq.read_table(tmp_path / "out" / "users.parquet").to_pylist()] == ["7"]


def test_an_empty_store_exports_and_ingests(tmp_path):
    root = build_store(tmp_path, **{**sample.tables(), "behaviors": []})
    _, expected = export_to(root, tmp_path / "out")
    assert rows_of(tmp_path / "out") == []
    ingest(tmp_path / "out", tmp_path / "again")
    assert verify(tmp_path / "again").digest == expected


def test_a_folder_with_something_in_it_is_left_alone(root, tmp_path):
    (tmp_path / "out").mkdir()
    export_to(root, tmp_path / "out")  # empty is fine
    with pytest.raises(InputError, match="not empty"):
        export_to(root, tmp_path / "out")
    with pytest.raises(InputError, match="not empty"):
        export_to(root, tmp_path / "out" / "items.parquet")


def test_nothing_is_left_of_an_export_that_fails(root, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise CorruptRecordError("a record is damaged")

    monkeypatch.setattr("store.operations.export._copy_tables", fail)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CorruptRecordError):
        export_to(root, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_progress_ends_at_one(root, tmp_path):
    seen = []
    export_to(root, tmp_path / "out", row_group_rows=1, progress=seen.append)
    assert seen == sorted(seen)
    assert np.isclose(seen[-1], 1.0)
