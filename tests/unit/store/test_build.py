import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from store import (
    BehaviorStore,
    CorruptGenerationError,
    InputError,
    MissingGenerationError,
    TooManyBadRowsError,
    ingest,
    parse_id,
    rebuild,
    verify,
)
from store.base.meta import StoreMeta
from store.base.sequence import roll_back_store
from store.building.retention import Retention
from store.dataset.json_rows import parse_rows
from store.delta.batch import ACCEPTED, DUPLICATE
from store.errors import LockedError
from store.live_writer import LiveWriter
from store.publishing.generation import current_name
from store.publishing.kept import LOCK_FILE, kept_generations
from store.publishing.lock import FileLock
from store.types import NO_ID
from tests.worlds import sample
from tests.worlds.datasets import build_store, write_dataset, write_table
from tests.worlds.sample import event

TAXONOMY = [{"category": 1, "parent": None}, {"category": 2, "parent": 1}]
DAY = 86_400_000


def many_events(count, *, users=40, seed=0):
    rng = np.random.default_rng(seed)
    return [
        event(f"user {rng.integers(users)}", int(rng.integers(60)), int(rng.integers(1, 5)), int(rng.integers(10**6)))
        for _ in range(count)
    ]


def digest(root):
    return verify(root).digest


def test_an_ingest_adds_to_what_is_there_and_doubles_nothing(tmp_path):
    rows = many_events(300)
    whole = build_store(tmp_path / "whole", taxonomy=TAXONOMY, behaviors=rows)
    first = write_dataset(tmp_path / "first", taxonomy=TAXONOMY, behaviors=rows[:200])
    second = write_dataset(tmp_path / "second", behaviors=rows[100:])
    report = ingest(first, tmp_path / "store")
    report = ingest(second, tmp_path / "store")  # its tables are those of the store
    known = len({(r["user"], r["item"], r["action"], r["timestamp_ms"]) for r in rows})
    assert report.num_read == 200
    assert report.meta.num_behaviors == known
    assert digest(tmp_path / "store") == digest(whole)
    ingest(first, tmp_path / "store")
    assert digest(tmp_path / "store") == digest(whole)


def test_replace_starts_anew(tmp_path):
    first = write_dataset(tmp_path / "first", taxonomy=TAXONOMY, behaviors=many_events(50))
    second = write_dataset(tmp_path / "second", taxonomy=TAXONOMY, behaviors=[event(1, 2, 1, 3)])
    ingest(first, tmp_path / "store")
    assert ingest(second, tmp_path / "store", replace=True).meta.num_behaviors == 1


def test_a_damaged_base_is_not_built_upon_but_may_be_replaced(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=many_events(50))
    path = root / "generations" / current_name(root, "store") / "base" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptGenerationError, match="sha256"):
        ingest(tmp_path / "dataset", root)
    assert ingest(tmp_path / "dataset", root, replace=True).meta.num_behaviors == 50


def test_partitions_processes_and_memory_do_not_matter(tmp_path):
    rows = many_events(6000, users=300)
    one = build_store(tmp_path / "one", taxonomy=TAXONOMY, behaviors=rows)
    for name, options in (("many", {"memory_bytes": 1 << 20}), ("side", {"memory_bytes": 1 << 20, "processes": 2})):
        ingest(tmp_path / "one" / "dataset", tmp_path / name, **options)
        assert digest(tmp_path / name) == digest(one)
    with BehaviorStore.open(tmp_path / "many") as store, store.snapshot() as snapshot:
        assert snapshot.name_of("user", parse_id("user 7")) == "user 7"


def test_side_info_columns_travel_through_builds(tmp_path):
    rows = [
        event("anna", 70, 2, 5, device="phone", stars=4.5),
        event("anna", 71, 2, 6, device=None, stars=None),
        event("bo", 70, 2, 7, device="tv", stars=1),
    ]
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=rows)
    rebuild(root)
    plain = write_dataset(tmp_path / "more", behaviors=[event("anna", 72, 2, 8)])
    ingest(plain, root)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert snapshot.meta.behavior_fields == (("device", "id"), ("stars", "number"))
        anna = snapshot.user(parse_id("anna")).events()
        device, stars = anna.fields
        assert device.tolist() == [parse_id("phone"), NO_ID, NO_ID]
        np.testing.assert_array_equal(stars, np.array([4.5, np.nan, np.nan], np.float32))
        assert snapshot.name_of("value", parse_id("tv")) == "tv"


def test_a_side_info_column_has_one_kind(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 2, 1, 3, device="phone")])
    other = write_dataset(tmp_path / "other", behaviors=[event(1, 2, 1, 4, device=5)])
    with pytest.raises(InputError, match="device is a side-info field of numbers, in the store it is one of ids"):
        ingest(other, root)


def test_a_side_info_column_without_a_value_takes_the_kind_of_the_others(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    write_table(folder, "behaviors-1", [event(1, 2, 1, 3, stars=None)])
    write_table(folder, "behaviors-2", [event(1, 2, 1, 4, stars=3)])
    assert ingest(folder, tmp_path / "store").meta.behavior_fields == (("stars", "number"),)


def test_a_killed_ingest_goes_on_where_it_was(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    rows = many_events(90)
    write_table(folder, "behaviors-1", rows[:40])
    write_table(folder, "behaviors-2", rows[40:])

    def die(step, done, rows=0):
        if step == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, tmp_path / "store", progress=die)
    report = ingest(folder, tmp_path / "store")
    assert (report.num_resumed, report.num_read) == (2, 90)
    whole = build_store(tmp_path / "whole", taxonomy=TAXONOMY, behaviors=rows)
    assert digest(tmp_path / "store") == digest(whole)
    assert not list((tmp_path / "store").glob(".ingest-*"))


def test_a_damaged_part_is_read_again(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY, behaviors=many_events(90))

    def die(step, done, rows=0):
        if step == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, tmp_path / "store", progress=die)
    (path,) = (tmp_path / "store").glob(".ingest-*/part-*/rows.bin")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = ingest(folder, tmp_path / "store")
    assert (report.num_resumed, report.num_read) == (0, 90)


def test_a_changed_input_is_read_anew(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY, behaviors=many_events(90))

    def die(step, done, rows=0):
        if step == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, tmp_path / "store", progress=die)
    write_table(folder, "behaviors", many_events(50, seed=1))
    assert ingest(folder, tmp_path / "store").num_resumed == 0


def test_new_tables_move_old_behaviors(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3), event(1, 8, 9, 4)])
    tables = write_dataset(tmp_path / "tables", taxonomy=[{"category": 9, "parent": None}])
    with pytest.raises(InputError, match="taxonomy: lacks 2 of the 2 rows of the store's table, such as 1, 2"):
        rebuild(root, tables=tables)
    report = rebuild(root, tables=tables, shrink_tables=True)
    assert report.meta.num_unmapped == 1
    with BehaviorStore.open(root) as store:
        assert store.history(1).category.tolist() == [NO_ID, 9]
    write_table(tables, "taxonomy", TAXONOMY)
    assert rebuild(root, tables=tables, shrink_tables=True).meta.num_unmapped == 1
    with BehaviorStore.open(root) as store:
        assert store.history(1).category.tolist() == [2, NO_ID]


def test_a_column_of_event_ids_is_there_only_where_an_event_has_one(tmp_path):
    rows = [event(1, 7, 2, 3, event_id=None), event(1, 8, 9, 4, event_id=None)]
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    write_table(folder, "behaviors", rows, suffix=".csv")
    assert not ingest(folder, tmp_path / "store").meta.keyed
    with BehaviorStore.open(tmp_path / "store") as store, LiveWriter(store) as writer:
        writer.append(parse_rows([event(1, 7, 2, 5)]))
    assert not rebuild(tmp_path / "store").meta.keyed
    more = write_dataset(tmp_path / "more", behaviors=[event(1, 7, 2, 6, event_id="a")])
    assert ingest(more, tmp_path / "store").meta.keyed
    assert rebuild(tmp_path / "store").meta.keyed


def test_retention_drops_by_age_and_by_number(tmp_path):
    rows = [event(1, item, 1, item * DAY, domain="ads" if item % 2 else "content") for item in range(10)]
    rows += [event(2, 1, 1, 1)]
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=rows)
    report = rebuild(root, retention=Retention(not_before_ms=2 * DAY, max_per_domain=3))
    assert report.counts.num_expired == 5
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert store.history(1).item.tolist() == [4, 5, 6, 7, 8, 9]
        assert list(snapshot.user_ids()) == [1]
    verify(root)
    with pytest.raises(InputError, match="max_per_domain"):
        Retention(max_per_domain=0)


def test_generations_are_kept_and_gone_back_to(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3)])
    first = current_name(root, "store")
    for time in range(4):
        ingest(write_dataset(tmp_path / f"more{time}", behaviors=[event(1, 7, 2, 10 + time)]), root, keep=3)
    names = kept_generations(root)
    assert len(names) == 3
    assert first not in names
    assert roll_back_store(root) == names[1]
    assert current_name(root, "store") == names[1]
    with BehaviorStore.open(root) as store:
        assert store.history(1).timestamp_ms.tolist() == [3, 10, 11, 12]
    assert roll_back_store(root, names[2]) == names[2]
    with pytest.raises(MissingGenerationError):
        roll_back_store(root, first)
    rebuild(root, keep=1)
    assert len(kept_generations(root)) == 1
    with pytest.raises(MissingGenerationError, match="no generation before"):
        roll_back_store(root)


def test_only_one_builds_at_a_time(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3)])
    with FileLock(root / LOCK_FILE, "test"), pytest.raises(LockedError, match=r"held by process \d+"):
        rebuild(root)
    rebuild(root)


def test_leftovers_of_killed_builds_are_removed(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3)])
    for name in (".building-abc", ".removed-abc", ".ingest-0123"):
        (root / name / "x").mkdir(parents=True)
    (root / ".current-xyz").write_text("")
    rebuild(root)
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path, monkeypatch):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3)])
    before = current_name(root, "store")
    monkeypatch.setattr("store.publishing.generation.time.time_ns", lambda: 10**18)
    rebuild(root)
    assert current_name(root, "store") > before
    assert kept_generations(root) == [before, current_name(root, "store")]


def test_bad_rows_of_all_files_count_together(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    for number in range(3):
        write_table(folder, f"behaviors-{number}", [event(1, number, 1, -5), event(1, number, 1, 5)])
    with pytest.raises(TooManyBadRowsError):
        ingest(folder, tmp_path / "store", max_bad_rows=2, bad_rows_file=tmp_path / "bad.csv")
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 1 + 3
    report = ingest(folder, tmp_path / "store", max_bad_rows=3)
    assert [(row.file, row.line) for row in report.bad_rows] == [(f"behaviors-{n}.parquet", 1) for n in range(3)]


def test_row_groups_of_one_file_are_read_as_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("store.building.event_files._PIECE_ROWS", 100)
    rows = many_events(1000)
    rows[555]["timestamp_ms"] = -1
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    pa.parquet.write_table(table, folder / "behaviors.parquet", row_group_size=70)
    report = ingest(folder, tmp_path / "store", max_bad_rows=1)
    assert report.num_read == 999
    assert [row.line for row in report.bad_rows] == [556]
    del rows[555]
    assert digest(tmp_path / "store") == digest(build_store(tmp_path / "b", taxonomy=TAXONOMY, behaviors=rows))


def test_a_history_of_some_domains(tmp_path):
    root = build_store(tmp_path, **sample.tables())
    with BehaviorStore.open(root) as store:
        anna = parse_id("anna")
        assert store.history(anna, domains=["content"]).timestamp_ms.tolist() == [20, 20]
        assert store.history(anna, domains=["ads"], limit=1).timestamp_ms.tolist() == [50]
        assert len(store.history(anna, domains=["none"])) == 0


def test_an_append_follows_a_generation_that_took_the_place_of_the_open_one(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=[event(1, 7, 2, 3)])
    with BehaviorStore.open(root) as store, LiveWriter(store) as writer:
        assert writer.append(parse_rows([event(1, 7, 2, 5)])).num_accepted == 1
        outdated = store.generation
        rebuild(root, keep=1)
        writer.trim()
        assert store.generation == outdated
        again = writer.append(parse_rows([event(1, 7, 2, 5), event(1, 7, 2, 6)]))
        assert again.result.tolist() == [DUPLICATE, ACCEPTED]
        assert store.generation != outdated
        assert store.history(1).timestamp_ms.tolist() == [3, 5, 6]


def test_facts_of_a_store_of_before_say_nothing_of_lists(tmp_path):
    with BehaviorStore.open(build_store(tmp_path, **sample.tables())) as store, store.snapshot() as snapshot:
        facts = snapshot.meta.model_dump(exclude={"item_lists", "user_lists"})
        assert (snapshot.meta.item_lists, snapshot.meta.user_lists) == (("tags",), ("likes",))
    before = StoreMeta.model_validate(facts)
    assert (before.item_lists, before.user_lists) == ((), ())
