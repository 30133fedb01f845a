import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import NO_ID, BehaviorStore, InputError, TooManyBadRowsError, ingest, parse_id, verify
from store.publishing.generation import open_generation
from tests.worlds import sample
from tests.worlds.datasets import build_store, write_dataset, write_table
from tests.worlds.sample import event

TAXONOMY = [{"category": 1, "parent": None}]
HEADER = "user,item,category,domain,action,timestamp_ms\n"


def dataset(tmp_path, text, *, name="behaviors.csv"):
    """A dataset folder of one CSV behaviors file and a one-node taxonomy."""
    write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "in" / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return tmp_path / "in"


def refused(tmp_path, text, **more):
    report = ingest(dataset(tmp_path, text, **more), tmp_path / "store", max_bad_rows=100)
    return [(row.line, row.reason) for row in report.bad_rows], report.meta.num_behaviors


def test_parquet_and_csv_of_the_same_rows_give_the_same_files(tmp_path):
    files = {}
    for suffix in (".parquet", ".csv"):
        root = build_store(tmp_path / suffix[1:], suffix=suffix, **sample.tables())
        files[suffix] = open_generation(root, "store").manifest.files
    assert files[".parquet"] == files[".csv"]
    assert len(files[".csv"]) > 15


def test_gzip_and_plain_csv_agree(tmp_path):
    text = HEADER + "1,2,1,ads,click,5\n"
    assert refused(tmp_path / "a", text, name="behaviors.csv.gz") == refused(tmp_path / "b", text) == ([], 1)


def test_several_files_are_read_in_the_order_of_their_names(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    write_table(folder, "behaviors-2", [event(1, 20, 1, 5)])
    write_table(folder, "behaviors-1", [event(1, 10, 1, 5)], suffix=".csv")
    ingest(folder, tmp_path / "store")
    with BehaviorStore.open(tmp_path / "store") as store:
        assert store.history(1).item.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",2,1,ads,click,5", "user: missing"),
        ("1,,1,ads,click,5", "item: missing"),
        ("1,2,1,,click,5", "domain: missing"),
        ("1,2,1,ads,,5", "action: missing"),
        ("1,2,1,ads,click,", "timestamp_ms: missing"),
        ("1,2,1,ads,click,5.5", "timestamp_ms: '5.5' is no integer"),
        ("1,2,1,ads,click,-5", "timestamp_ms: -5 is outside 0 .. 253402300799999 (milliseconds UTC)"),
        (
            "1,2,1,ads,click,1700000000000000",
            "timestamp_ms: 1700000000000000 is outside 0 .. 253402300799999 (milliseconds UTC)",
        ),
        (f"{2**64 - 1},2,1,ads,click,5", f"user: '{2**64 - 1}' is no id"),
        (f"1,2,{2**64 - 1},ads,click,5", f"category: '{2**64 - 1}' is no id"),
        ("1,2,1,ads,click", "expected 6 values, found 5"),
        ("1,2,1,ads,click,5,6", "expected 6 values, found 7"),
    ],
)
def test_a_bad_csv_row_is_refused_with_its_line_and_reason(tmp_path, line, reason):
    text = HEADER + "1,2,1,ads,click,5\n\n" + line + "\n1,3,1,ads,click,5\n"
    assert refused(tmp_path, text) == ([(4, reason)], 2)


def test_lines_stay_right_behind_quotes_and_wrong_rows(tmp_path):
    text = HEADER + (
        '1,"2\n3",1,ads,click,5\n'  # lines 2 and 3: a line break inside a value
        "1,2\n"  # line 4
        "\n"  # line 5: empty, passed over
        '1,"2",1,ads,click,5\n'  # line 6: good
        "1,2,1,ads,click,x\n"  # line 7
        '1,2,"1,ads,click,5\n'  # lines 8 and 9: the quote is not closed
        "1,2,1,ads,click,6\n"
        "1,2,1,ads,click,7"  # line 10: good
    )
    bad, num_behaviors = refused(tmp_path, text)
    assert num_behaviors == 2
    assert [line for line, _ in bad] == [4, 8, 9, 2, 7]
    assert "a value runs over 2 lines" in dict(bad)[2]
    assert "a quote is not closed" in dict(bad)[9]


@settings(max_examples=30, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from(["1,2,1,ads,click,5", '1,"2",1,ads,click,6', '1,"2,1,ads,click,7', '1,2"', "", '"']),
        max_size=12,
    )
)
def test_every_line_is_read_refused_or_empty_whatever_the_quotes(tmp_path_factory, lines):
    tmp_path = tmp_path_factory.mktemp("quotes")
    try:
        bad, num_behaviors = refused(tmp_path, HEADER + "".join(line + "\n" for line in lines))
    except InputError as exc:
        assert "never closed" in str(exc)  # noqa: PT017 (either outcome is right)
        return
    good = {line for line in lines if line in {"1,2,1,ads,click,5", '1,"2",1,ads,click,6'}}
    assert num_behaviors <= len(good)
    if all('"' not in line or line.count('"') == 2 for line in lines):
        assert num_behaviors == len(good)
        assert bad == []


def test_bytes_that_are_no_text_are_refused(tmp_path):
    text = HEADER.encode() + b"1,2,1,ads,click,5\n1,\xff\xfe,1,ads,click,5\n"
    assert refused(tmp_path, text) == ([(3, r"item: b'\xff\xfe' is not UTF-8")], 1)


def test_windows_files_are_read(tmp_path):
    text = b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"1,2,1,ads,click,5\r\n"
    assert refused(tmp_path, text) == ([], 1)


def test_a_bad_parquet_row_is_refused_with_its_row_and_reason(tmp_path):
    rows = [event(1, 2, 1, 5), event(-1, 2, 1, 5), event(1, None, 1, 5), event(1, 2, None, None), event(1, 3, 1, -1)]
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY, behaviors=rows)
    report = ingest(folder, tmp_path / "store", max_bad_rows=4)
    assert [str(row) for row in report.bad_rows] == [
        "behaviors.parquet:2: user: -1 is no id",
        "behaviors.parquet:3: item: missing",
        "behaviors.parquet:4: timestamp_ms: missing",
        "behaviors.parquet:5: timestamp_ms: -1 is outside 0 .. 253402300799999 (milliseconds UTC)",
    ]
    assert report.meta.num_behaviors == 1


def test_one_bad_row_too_many_publishes_nothing_and_is_listed(tmp_path):
    text = HEADER + "1,2,1,ads,click,5\n1,2,1,ads,click,x\n1,2,1,ads,click,y\n"
    folder, listing = dataset(tmp_path, text), tmp_path / "bad.csv"
    with pytest.raises(TooManyBadRowsError, match=r"(?s)more than 1 bad rows.*behaviors\.csv:3: .*--max-bad-rows"):
        ingest(folder, tmp_path / "store", max_bad_rows=1, bad_rows_file=listing)
    assert not (tmp_path / "store" / "CURRENT").exists()
    assert listing.read_text() == (
        "file,line,reason\n"
        "behaviors.csv,3,timestamp_ms: 'x' is no integer\n"
        "behaviors.csv,4,timestamp_ms: 'y' is no integer\n"
    )
    report = ingest(folder, tmp_path / "store", max_bad_rows=2)
    assert len(report.bad_rows) == 2
    assert report.meta.num_behaviors == 1
    assert report.meta.actions == ("click",)


def test_words_of_refused_rows_leave_no_trace(tmp_path):
    text = HEADER + "1,2,1,ads,click,5\n9,2,1,radio,hear,x\n"
    bad, _ = refused(tmp_path, text)
    assert len(bad) == 1
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        assert snapshot.vocabulary.domains == ("ads",)
        assert snapshot.streams == (("ads", "click"),)
        assert list(snapshot.user_ids()) == [1]


def test_duplicates_are_left_out_by_event_id_or_else_by_content(tmp_path):
    rows = [
        event(1, 2, 1, 5, event_id="a"),
        event(1, 3, 1, 6, event_id="a"),  # the same event again, first one stays
        event(2, 2, 1, 5, event_id="a"),  # another user's
        event(1, 2, 1, 5, event_id="b"),  # another event of the same content
        event(1, 2, 1, 5),
        event(1, 2, 1, 5),  # repeats the one before
        event(1, 2, 1, 5, action="view"),
        event(1, 2, None, 5, domain="content"),  # user, item, action and time are the key: repeats too
    ]
    root = build_store(tmp_path, taxonomy=TAXONOMY, behaviors=rows)
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        assert snapshot.meta.num_behaviors == 5
        assert snapshot.user(1).history().item.tolist() == [2, 2, 2, 2]
    report = ingest(tmp_path / "dataset", root)
    assert report.counts.num_duplicates == 8
    assert report.meta.num_behaviors == 5


def test_replaying_a_file_changes_nothing(tmp_path):
    rows = sample.BEHAVIORS
    once = build_store(tmp_path / "a", **sample.tables())
    twice = build_store(tmp_path / "b", **{**sample.tables(), "behaviors": [*rows, *rows]})
    assert open_generation(once, "store").manifest.files == open_generation(twice, "store").manifest.files


def test_integers_and_strings_are_the_same_ids(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    write_table(folder, "behaviors-1", [event(5, 2, 1, 1)])
    write_table(folder, "behaviors-2", [event("5", "05", "1", 2)])
    ingest(folder, tmp_path / "store")
    with BehaviorStore.open(tmp_path / "store") as store:
        assert store.history(5).item.tolist() == [2, parse_id("05")]


def test_dictionary_and_unsigned_columns_are_read(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY)
    columns = {
        "user": pa.array([2**64 - 2], pa.uint64()),
        "item": pa.array(["x"]).dictionary_encode(),
        "category": pa.array([None], pa.int8()),
        "domain": pa.array(["ads"], pa.large_string()),
        "action": pa.array(["click"]).dictionary_encode(),
        "timestamp_ms": pa.array([5], pa.int32()),
    }
    pa.parquet.write_table(pa.table(columns), folder / "behaviors.parquet")
    ingest(folder, tmp_path / "store")
    with BehaviorStore.open(tmp_path / "store") as store:
        assert store.history(2**64 - 2).item.tolist() == [parse_id("x")]


def test_no_behaviors_make_a_store_too(tmp_path):
    for suffix in (".csv", ".parquet"):
        root = build_store(tmp_path / suffix, suffix=suffix, taxonomy=TAXONOMY, behaviors=[])
        with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
            assert list(snapshot.user_ids()) == []
            assert snapshot.meta.num_behaviors == snapshot.meta.first_ms == 0


def test_repeated_items_and_users_are_refused(tmp_path):
    folder = write_dataset(
        tmp_path / "in",
        suffix=".csv",
        taxonomy=TAXONOMY,
        behaviors=[event(1, 2, 1, 5)],
        items=[{"item": 5, "price": 1.0}, {"item": "x", "price": 2.0}, {"item": 5, "price": 3.0}],
        users=[{"user": 1}, {"user": 1}],
    )
    report = ingest(folder, tmp_path / "store", max_bad_rows=2)
    assert [str(row) for row in report.bad_rows] == [
        "items.csv:4: item: 5 stands already at line 2",
        "users.csv:3: user: 1 stands already at line 2",
    ]
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        assert snapshot.items.lookup(np.array([5], np.uint64))["price"].tolist() == [1.0]


def test_side_info_and_covers_that_are_none_are_refused(tmp_path):
    folder = write_dataset(
        tmp_path / "in",
        taxonomy=TAXONOMY,
        behaviors=[event(1, 2, 1, 5)],
        items=[
            {"item": 1, "price": float("inf"), "covers": [1]},
            {"item": 2, "price": 1.0, "covers": [1, -1]},
            {"item": 3, "price": None, "covers": []},
        ],
    )
    report = ingest(folder, tmp_path / "store", max_bad_rows=2)
    assert [str(row) for row in report.bad_rows] == [
        "items.parquet:1: price: inf is no finite float32",
        "items.parquet:2: covers: [1, -1] holds what is no id",
    ]
    assert report.meta.num_items == 1


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_lists_of_a_field_are_kept_as_sets_and_refused_if_they_hold_what_is_no_id(tmp_path, suffix):
    long = [str(number) for number in range(257)]
    items = [
        {"item": 1, "tags": ["b", "7", "b"]},
        {"item": 2, "tags": []},
        {"item": 3, "tags": None},
        {"item": 4, "tags": ["b", ""]},
        {"item": 5, "tags": long},
        {"item": 6, "tags": long[:256]},
        {"item": 7, "tags": [str(NO_ID)]},
    ]
    folder = write_dataset(
        tmp_path / "in", taxonomy=TAXONOMY, behaviors=[event(1, 2, 1, 5)], items=items, suffix=suffix
    )
    report = ingest(folder, tmp_path / "store", max_bad_rows=3)
    line = 1 if suffix == ".parquet" else 2
    assert [row.line - line for row in report.bad_rows] == [3, 4, 6]
    reasons = [row.reason for row in report.bad_rows]
    assert reasons[0] == "tags: ['b', ''] holds what is no id"
    assert reasons[1] == "tags: 257 values in a list, at most 256"
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        found = snapshot.items.lookup(np.array([3, 1, 2, 9, 1], np.uint64))["tags"]
        assert found.offsets.tolist() == [0, 0, 2, 2, 2, 4]
        assert found.values.tolist() == sorted([7, parse_id("b")]) * 2
        assert len(snapshot.items.lookup(np.array([6], np.uint64))["tags"].values) == 256
        assert snapshot.meta.item_lists == ("tags",)
    verify(tmp_path / "store")


def test_a_csv_file_has_no_two_columns_of_one_name_with_brackets_or_without(tmp_path):
    folder = dataset(tmp_path, HEADER)
    (folder / "users.csv").write_text("user,likes,likes[]\n1,2,3\n")
    with pytest.raises(InputError, match="two columns of one name"):
        ingest(folder, tmp_path / "store")
    (folder / "users.csv").unlink()
    (folder / "behaviors.csv").write_text(HEADER.strip() + ",tags[]\n")
    with pytest.raises(InputError, match="tags: a behavior has one value of a side-info field"):
        ingest(folder, tmp_path / "store")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "has no taxonomy"),
        ({"taxonomy": TAXONOMY}, "has no behaviors"),
        ({"taxonomy": [{"category": 1}]}, r"taxonomy\.parquet: has no column parent"),
        ({"taxonomy": TAXONOMY, "behaviors": [{"user": 1}]}, "has no column action, category, domain"),
        ({"taxonomy": TAXONOMY, "behaviors": [event(1, 2, 1, 5, tags=[1])]}, "tags: a behavior has one value"),
        ({"taxonomy": TAXONOMY, "behaviors": [event(1, 2, 1.5, 5)]}, "category has type double; an id is"),
        ({"taxonomy": TAXONOMY, "behaviors": [event(1, 2, 1, 5.0)]}, "timestamp_ms has type double"),
        ({"taxonomy": TAXONOMY, "behaviors": [event(1, 2, 1, 5, domain=7)]}, "domain has type int64"),
        ({"taxonomy": TAXONOMY, "items": [{"item": 1, "tags": [1.5]}]}, "items.parquet: tags has type double; an id"),
        ({"taxonomy": TAXONOMY, "items": [{"item": 1, "tags": {"a": 1}}]}, "tags has type struct.* or a list of ids"),
        ({"taxonomy": TAXONOMY, "items": [{"item": 1, "covers": 5}]}, "covers has type int64"),
        ({"taxonomy": [{"category": 1, "parent": 2}]}, r"taxonomy\.parquet:1: parent 2 of category 1"),
        (
            {"taxonomy": TAXONOMY, "behaviors": [event(1, 2, 1, 5, domain=f"d{k}") for k in range(257)]},
            "more than 256 distinct domains",
        ),
    ],
)
def test_folders_that_break_the_contract(tmp_path, tables, message):
    folder = write_dataset(tmp_path / "in", **tables)
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        ingest(folder, tmp_path / "store")
    assert not (tmp_path / "store" / "CURRENT").exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ingest(tmp_path / "nowhere", tmp_path / "store")
    with pytest.raises(InputError, match=r"behaviors\.csv: is empty"):
        ingest(dataset(tmp_path / "a", ""), tmp_path / "store")
    with pytest.raises(InputError, match="two columns of one name"):
        ingest(dataset(tmp_path / "b", HEADER.strip() + ",user\n"), tmp_path / "store")
    folder = dataset(tmp_path / "c", HEADER)
    (folder / "behaviors.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match=r"behaviors\.parquet: cannot be read"):
        ingest(folder, tmp_path / "store")
    folder = dataset(tmp_path / "d", HEADER)
    (folder / "behaviors.csv.gz").write_bytes(gzip.compress(HEADER.encode())[:-9])
    with pytest.raises(InputError, match=r"behaviors\.csv\.gz: cannot be read"):
        ingest(folder, tmp_path / "store")
    folder = write_dataset(tmp_path / "e", taxonomy=TAXONOMY)
    write_table(folder, "taxonomy", TAXONOMY, suffix=".csv")
    with pytest.raises(InputError, match=r"taxonomy\.csv and taxonomy\.parquet hold one table"):
        ingest(folder, tmp_path / "store")


def test_two_strings_of_one_hash_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("store.types.xxhash.xxh3_64_intdigest", lambda data: 5)
    folder = write_dataset(tmp_path / "in", taxonomy=TAXONOMY, behaviors=[event("a", 2, 1, 5), event("b", 2, 1, 5)])
    with pytest.raises(InputError, match="the user ids 'b' and 'a' have the same 64-bit hash"):
        ingest(folder, tmp_path / "store")
