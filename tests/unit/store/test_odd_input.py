"""What is odd about an input is refused by name, or told: never taken in silence."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import BehaviorStore, InputError, ingest, parse_id, verify
from store.dataset.impressions import read_impressions
from store.operations.export import export
from store.operations.taxonomy_check.check import check_dataset
from store.records.layout import MAX_FIELDS
from tests.worlds.datasets import write_dataset, write_table

NOON_2024 = 1_710_000_000_000
TAXONOMY = [dict(category="tea", parent=None), dict(category="green", parent="tea")]
HEADER = "user,item,category,domain,action,timestamp_ms"


def event(user=1, item=7, category="tea", time=NOON_2024, **more):
    return dict(user=user, item=item, category=category, domain="ads", action="view", timestamp_ms=time, **more)


@pytest.fixture
def folder(tmp_path):
    return write_dataset(tmp_path / "in", taxonomy=TAXONOMY, behaviors=[event()])


def texts(folder, **tables):
    for stem, text in tables.items():
        for path in folder.glob(f"{stem}.*"):
            path.unlink()
        (folder / f"{stem}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def arrow(folder, stem, **columns):
    for path in folder.glob(f"{stem}.*"):
        path.unlink()
    pq.write_table(pa.table(columns), folder / f"{stem}.parquet")
    return folder


def plain_columns(count):
    return dict(
        user=pa.array([1] * count),
        item=pa.array(range(count)),
        category=pa.array(["tea"] * count),
        domain=pa.array(["ads"] * count),
        action=pa.array(["view"] * count),
        timestamp_ms=pa.array(range(NOON_2024, NOON_2024 + count)),
    )


# Types


def test_values_of_a_dictionary_that_no_row_has_do_not_count(folder, tmp_path):
    words = pa.array([f"word{at}" for at in range(300)])
    few, many, some = (
        pa.DictionaryArray.from_arrays(pa.array(rows, pa.int16()), words)
        for rows in ([1, 0, 1, 1], [299, 0, 0, 1], [1, 0, None, 1])
    )
    columns = plain_columns(4) | dict(domain=few, action=many, scene=some)
    meta = ingest(arrow(folder, "behaviors", **columns), tmp_path / "store").meta
    assert (meta.domains, meta.actions) == (("word0", "word1"), ("word0", "word1", "word299"))
    assert meta.scenes == ("", "word0", "word1")


TEXT_TYPES = [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
@pytest.mark.parametrize("name", ["user", "item", "category", "domain", "action", "scene", "event_id", "device"])
def test_every_type_of_text_is_text(folder, tmp_path, name, kind):
    plain = pa.array(["a", "b", "a"])
    expected = ingest(arrow(folder, "behaviors", **plain_columns(3) | {name: plain}), tmp_path / "plain")
    found = ingest(arrow(folder, "behaviors", **plain_columns(3) | {name: plain.cast(kind)}), tmp_path / "other")
    assert found.meta == expected.meta
    assert verify(tmp_path / "other").digest == verify(tmp_path / "plain").digest


LIST_TYPES = [
    pa.large_list(pa.string()),
    pa.list_view(pa.string()),
    pa.large_list_view(pa.large_string()),
    pa.list_(pa.string_view()),
    pa.list_(pa.string(), 1),
]


@pytest.mark.parametrize("kind", LIST_TYPES, ids=str)
def test_every_type_of_list_is_a_list(folder, tmp_path, kind):
    lists = pa.array([["a"], ["b"]], kind)
    arrow(folder, "items", item=pa.array([1, 2]), tags=lists, covers=lists)
    report = ingest(folder, tmp_path / "store")
    assert report.meta.item_lists == ("tags",)
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        assert snapshot.covers.values.tolist() == [parse_id("a"), parse_id("b")]


def test_decimal_numbers_are_ids_and_numbers(folder, tmp_path):
    decimals = pa.array([7, None], pa.decimal128(20, 0))
    columns = plain_columns(2) | dict(item=pa.array([5, 6], pa.decimal128(20, 0)), price=decimals)
    meta = ingest(arrow(folder, "behaviors", **columns), tmp_path / "store").meta
    assert meta.behavior_fields == (("price", "number"),)
    with BehaviorStore.open(tmp_path / "store") as store:
        assert store.history(1).item.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("older", "newer", "kind"),
    [
        ("", "phone", "id"),  # introduced later
        ("phone", "", "id"),
        ("5", "phone", "id"),  # what only looks like numbers
        ("phone", "5", "id"),
        ("5", "6", "number"),
        ("", "6", "number"),
    ],
)
def test_a_csv_column_gets_its_type_when_all_files_are_read(folder, tmp_path, older, newer, kind):
    (folder / "behaviors.parquet").unlink()
    write_table(folder, "behaviors-1", [event(device=older)], suffix=".csv")
    write_table(folder, "behaviors-2", [event(item=8, device=newer)], suffix=".csv")
    assert ingest(folder, tmp_path / "store").meta.behavior_fields == (("device", kind),)
    # So too in ingests one after another, where the first has settled nothing, or text.
    one = write_dataset(tmp_path / "one", taxonomy=TAXONOMY, suffix=".csv", behaviors=[event(device=older)])
    two = write_dataset(tmp_path / "two", suffix=".csv", behaviors=[event(item=8, device=newer)])
    ingest(one, tmp_path / "store2")
    if (older, newer) != ("5", "phone"):
        assert ingest(two, tmp_path / "store2").meta.behavior_fields == (("device", kind),)
    else:
        with pytest.raises(InputError, match="device is a side-info field of ids, in the store it is one of numbers"):
            ingest(two, tmp_path / "store2")


def test_a_csv_column_gets_its_type_when_the_whole_file_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("store.dataset.csv_reader._CHUNK_BYTES", 64)
    rows = [event(item=at, device=word) for at, word in enumerate(["", "", "3", "4", "phone", "tv"])]
    (folder / "behaviors.parquet").unlink()
    write_table(folder, "behaviors", rows, suffix=".csv")
    assert ingest(folder, tmp_path / "store").meta.behavior_fields == (("device", "id"),)
    impressions = [
        dict(user=1, item=7, timestamp_ms=5, label_buy=at % 2, device=row["device"]) for at, row in enumerate(rows)
    ]
    write_table(folder, "impressions", impressions, suffix=".csv")
    assert read_impressions(folder).fields["device"].dtype == "uint64"


def test_impressions_of_several_files_have_one_type_and_the_same_columns(folder):
    rows = [
        dict(user=1, item=7, timestamp_ms=5, label_buy="", device=""),
        dict(user=1, item=7, timestamp_ms=5, label_buy=1, device="tv"),
    ]
    for number, row in enumerate(rows):
        write_table(folder, f"impressions-{number}", [row], suffix=".csv")
    found = read_impressions(folder)
    assert found.fields["device"].tolist() == [2**64 - 1, parse_id("tv")]
    assert str(found.labels[:, 0].tolist()) == "[nan, 1.0]"
    write_table(folder, "impressions-1", [{**rows[1], "os": "x"}], suffix=".csv")
    with pytest.raises(
        InputError, match=r"impressions-1.csv and impressions-0.csv differ in their columns: only one has os"
    ):
        read_impressions(folder)
    write_table(folder, "impressions-0", [{**rows[1], "device": 5}])
    (folder / "impressions-0.csv").unlink()
    write_table(folder, "impressions-1", [rows[1]], suffix=".csv")
    with pytest.raises(
        InputError, match=r"impressions-1.csv: device is .* of ids, in impressions-0.parquet .* numbers"
    ):
        read_impressions(folder)


def test_impressions_without_a_row_or_a_value(folder):
    texts(folder, impressions="user,item,timestamp_ms,label_buy,seg\n")
    with pytest.raises(InputError, match="the impressions files have no rows"):
        read_impressions(folder)
    texts(folder, impressions="user,item,timestamp_ms,label_buy,seg\n1,2,3,,\n")
    assert (read_impressions(folder).fields, read_impressions(folder).columns) == ({}, ("seg",))


def test_more_fields_than_a_record_has_room_for_are_refused_before_anything_is_read(folder, tmp_path):
    def columns(count):
        return plain_columns(1) | {f"f{at}": pa.array([1.0]) for at in range(count)}

    assert len(ingest(arrow(folder, "behaviors", **columns(MAX_FIELDS)), tmp_path / "a").meta.behavior_fields) == 240
    steps = []
    with pytest.raises(InputError, match="behaviors: 241 side-info fields, a record has room for 240"):
        ingest(arrow(folder, "behaviors", **columns(241)), tmp_path / "b", progress=lambda step, *_: steps.append(step))
    assert steps == []


# Files


@pytest.mark.parametrize("stem", ["behaviors", "taxonomy", "items", "impressions"])
def test_line_ends_of_old_macs_are_named(folder, tmp_path, stem):
    rows = {"behaviors": f"{HEADER}\r1,7,tea,ads,view,5\r", "taxonomy": "category,parent\rtea,\r", "items": "item\r7\r"}
    texts(folder, **{stem: rows.get(stem, "user,item,timestamp_ms,label_buy\r1,7,5,1\r")})
    with pytest.raises(InputError, match=rf"{stem}.csv: has carriage returns alone at line ends"):
        read_impressions(folder) if stem == "impressions" else ingest(folder, tmp_path / "store")


def test_a_lone_carriage_return_further_down_is_no_open_quote(folder, tmp_path):
    texts(folder, behaviors=f"{HEADER}\n1,7,tea,ads,view,5\r2,7,tea,ads,view,5\n")
    with pytest.raises(InputError, match="lines 2 to 2: has carriage returns alone"):
        ingest(folder, tmp_path / "store")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"user", mtime=0), "is compressed by gzip and no CSV text; name it .csv.gz"),
        (b"PAR1....", "is a Parquet file"),
        ("user,item".encode("utf-16"), "is text in UTF-16"),
        (b"PK\x03\x04", "is a zip archive"),
    ],
)
def test_a_file_of_another_format_is_named(folder, tmp_path, content, what):
    texts(folder, behaviors=content)
    with pytest.raises(InputError, match=f"behaviors.csv: {what}"):
        ingest(folder, tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "column 7 has no name"),
        (" ", "column 7 has no name"),
        ("__index_level_0__", "column 7 is '__index_level_0__'"),
        ("Unnamed: 0", "column 7 is 'Unnamed: 0'"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_index_of_pandas_is_no_field(folder, tmp_path, name, what, suffix):
    (folder / "behaviors.parquet").unlink()
    write_table(folder, "behaviors", [{**event(), name: 0}], suffix=suffix)
    with pytest.raises(InputError, match=f"behaviors{suffix}: {what}; if it is the index that pandas adds"):
        ingest(folder, tmp_path / "store")


def test_columns_of_one_name_are_named(folder, tmp_path):
    texts(folder, behaviors=f"{HEADER},price,price\n")
    with pytest.raises(InputError, match="has two columns of one name: price"):
        ingest(folder, tmp_path / "store")


def test_a_folder_is_no_table(folder, tmp_path):
    (folder / "behaviors-2.parquet").mkdir()
    with pytest.raises(InputError, match=r"behaviors-2.parquet: is a folder, a table is a file; move its files into"):
        ingest(folder, tmp_path / "store")


# What is told


def warnings(folder, root, **options):
    return "\n".join(ingest(folder, root, **options).warnings)


def test_what_nearly_has_the_name_of_a_table_is_told(folder, tmp_path):
    for name in ("item.csv", "Taxonomy.CSV", "notes.txt", "ui.csv", "behaviors-old.parquet.bak"):
        (folder / name).write_text("")
    (folder / "behaviors").mkdir()
    told = warnings(folder, tmp_path / "store")
    assert "item.csv: is no table and ignored; is it meant to be items.csv?" in told
    assert "Taxonomy.CSV: is no table and ignored; is it meant to be taxonomy.csv?" in told
    assert "behaviors: a folder, which is ignored" in told
    assert not any(name in told for name in ("notes.txt", "ui.csv", ".bak"))
    assert "odd-input" in {finding.kind for finding in check_dataset(folder).findings}


def test_the_span_of_the_times_is_reported_and_seconds_are_told(folder, tmp_path):
    report = ingest(folder, tmp_path / "store")
    assert (report.read_span, report.warnings) == ((NOON_2024, NOON_2024), ())
    texts(folder, behaviors=f"{HEADER}\n1,7,tea,ads,view,{NOON_2024}\n1,7,tea,ads,view,{NOON_2024 // 1000}\n")
    report = ingest(folder, tmp_path / "other")
    assert report.read_span == (NOON_2024 // 1000, NOON_2024)
    [told] = report.warnings
    assert told.startswith(
        "behaviors.csv: timestamp_ms: times before 2000: 1, such as line 3: 1710000000 is 1970-01-20"
    )
    assert "it is 2024-03-09 if it counts seconds" in told
    [finding] = check_dataset(folder).findings
    assert (finding.kind, finding.is_error, [case.text for case in finding.cases]) == ("odd-input", False, [told])
    texts(folder, behaviors=f"{HEADER}\n1,7,tea,ads,view,5\n")
    assert "seconds" not in warnings(folder, tmp_path / "third")


@pytest.mark.parametrize(
    ("user", "what"),
    [
        ("NaN", "words for a missing value"),
        ("NULL", "words for a missing value"),
        ("None", "words for a missing value"),
        ("\\N", "words for a missing value"),
        ("7.0", "numbers as floating-point columns are written"),
        ("5.11111E+10", "numbers as floating-point columns are written"),
        (" 7", "ids with a space"),
        ("anna ", "ids with a space"),
        ("007", "numbers with a sign or leading zeros"),
        ("+7", "numbers with a sign or leading zeros"),
        ("rose\u0301", "ids that are not in normal form NFC"),
        ("anna", ""),
        ("7", ""),
        ("a-7.0", ""),
        ("ros\u00e9", ""),
    ],
)
@pytest.mark.parametrize("column", ["user", "item", "category"])
def test_ids_that_may_not_be_meant_so_are_told(folder, tmp_path, column, user, what):
    row = {"user": "1", "item": "7", "category": "tea"} | {column: user}
    texts(folder, behaviors=f"{HEADER}\n{row['user']},{row['item']},{row['category']},ads,view,{NOON_2024}\n")
    told = warnings(folder, tmp_path / "store")
    if not what:
        assert not told
    else:
        assert f"behaviors.csv: {column}: {what}" in told
        assert f"1, such as {user!r}" in told


@pytest.mark.parametrize("stray", ["n/a", "2,5"])
@pytest.mark.parametrize("stem", ["behaviors", "items"])
def test_text_in_a_column_of_numbers_is_told(folder, tmp_path, stray, stem):
    prices = [*(str(at / 2) for at in range(20)), stray, "", "1e3", "-5"]
    if stem == "items":
        rows = [dict(item=at, category="tea", price=price) for at, price in enumerate(prices)]
    else:
        (folder / "behaviors.parquet").unlink()
        rows = [event(item=at, price=price) for at, price in enumerate(prices)]
    write_table(folder, stem, rows, suffix=".csv")
    what = "text in a column of numbers, which makes all of it categorical: 1, such as"
    assert warnings(folder, tmp_path / "store") == f"{stem}.csv: price: {what} {stray!r}"
    assert any(f"{what} {stray!r}" in case.text for finding in check_dataset(folder).findings for case in finding.cases)


@pytest.mark.parametrize(("values", "is_told"), [(["1.5", "n/a"], True), (["1,5", "2"], True), (["10", "XL"], False)])
def test_a_missing_number_or_one_with_a_comma_is_told_however_few_rows_there_are(folder, tmp_path, values, is_told):
    write_table(folder, "items", [dict(item=at, price=price) for at, price in enumerate(values)], suffix=".csv")
    assert ("text in a column of numbers" in warnings(folder, tmp_path / "store")) == is_told


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_negative_number_is_no_id_in_any_format(folder, tmp_path, suffix):
    (folder / "behaviors.parquet").unlink()
    write_table(folder, "behaviors", [event(user=-7)], suffix=suffix)
    [row] = ingest(folder, tmp_path / "store", max_bad_rows=1).bad_rows
    assert row.reason in ("user: '-7' is no id", "user: -7 is no id")


def test_a_user_with_a_large_part_of_everything_is_told(folder, tmp_path):
    rows = [event(user=f"u{at % 20}", item=at) for at in range(900)]
    rows += [event(user="anonymous", item=at) for at in range(200)]
    write_table(folder, "behaviors", rows)
    assert warnings(folder, tmp_path / "store") == (
        "user anonymous has 18% of all behaviors: does the id stand for nobody in particular?"
    )


def test_covered_products_that_nothing_knows_are_told(folder):
    texts(folder, items='item,covers\n7,\n8,\nad1,7|8\nad2,"7,8"\nad3,"[7, 8]"\n')
    [finding] = [each for each in check_dataset(folder).findings if each.kind == "covers-unknown"]
    assert {case.text for case in finding.cases} == {"7,8, which ad2 covers", "[7, 8], which ad3 covers"}


def test_a_check_refuses_the_rows_that_an_ingest_refuses(folder, tmp_path):
    texts(
        folder,
        behaviors=f"{HEADER}\n,7,tea,ads,view,5\n-1,7,tea,ads,view,5\n1,7,tea,ads,,5\n1,7,tea,ads,view,2017-01-20\n",
    )
    report = ingest(folder, tmp_path / "store", max_bad_rows=9)
    [finding] = [each for each in check_dataset(folder).findings if each.kind == "bad-row"]
    assert [case.text for case in finding.cases] == [str(row) for row in report.bad_rows]
    assert len(report.bad_rows) == 4


# Ids as they stand in the input


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"taxonomy": "category,parent\na,c\nb,a\nc,b\n"}, "category [abc] is its own ancestor"),
        ({"taxonomy": "category,parent,name\na,,Tea\na,,Tea\n"}, "category a stands already at"),
        ({"taxonomy": "category,parent\nb,A\n"}, "parent A of category b is no category of this tree"),
        ({"bridges": "domain,category,node\ncontent,x,tea\n"}, "x is no category of the tree of domain 'content'"),
        ({"bridges": "domain,category,node\ncontent,r,nowhere\n"}, "node nowhere is no category of the ads' tree"),
        ({"bridges": "domain,category,node\ncontent,r,tea\ncontent,r,tea\n"}, "category r is bridged already"),
        ({"items": "item,name\nx,Green Tea\nx,Black Tea\n"}, "item: x stands already at line 2"),
        ({"users": "user,age\nanna,3\nanna,4\n"}, "user: anna stands already at line 2"),
    ],
)
def test_errors_name_ids_as_they_stand_in_the_input(folder, tmp_path, tables, message):
    if "bridges" in tables:
        texts(folder, taxonomy="category,parent,domain\ntea,,\nr,,content\n")
    with pytest.raises(InputError, match=message):
        ingest(texts(folder, **tables), tmp_path / "store")


def test_exported_behaviors_join_with_the_exported_tables(folder, tmp_path):
    write_table(folder, "taxonomy", [{**row, "name": row["category"].title()} for row in TAXONOMY])
    write_table(
        folder,
        "items",
        [dict(item="t1", category="green", name="Green Tea"), dict(item="5", category="tea", name="-5")],
    )
    write_table(folder, "users", [dict(user="anna", age=3)])
    write_table(
        folder, "behaviors", [event("anna", "t1", "green"), event("anna", "5", "tea"), event("7", "other", None)]
    )
    ingest(folder, tmp_path / "store")
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        assert snapshot.name_of("item", parse_id("t1")) == "Green Tea"
        export(snapshot, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "behaviors-00000.parquet").to_pylist()
    assert {(row["user"], row["item"], row["category"]) for row in rows} == {
        ("anna", "t1", "green"),
        ("anna", "5", "tea"),
        ("7", "other", None),
    }
    assert set(pq.read_table(tmp_path / "out" / "items.parquet")["item"].to_pylist()) == {"t1", "5"}
    ingest(tmp_path / "out", tmp_path / "again")
    assert verify(tmp_path / "again").digest == verify(tmp_path / "store").digest


# Tables that shrink


def test_a_table_that_lacks_rows_of_the_stores_is_refused_unless_told(folder, tmp_path):
    write_table(folder, "items", [dict(item="5", category="tea"), dict(item="x", category="tea")])
    write_table(folder, "users", [dict(user=1, age=3), dict(user=2, age=4)])
    ingest(folder, tmp_path / "store")
    more = write_dataset(
        tmp_path / "more",
        behaviors=[event(item=9)],
        items=[dict(item="x", category="tea"), dict(item="6", category="tea")],
    )
    with pytest.raises(
        InputError, match=r"items: lacks 1 of the 2 rows of the store's table, such as 5\. .*--shrink-tables"
    ):
        ingest(more, tmp_path / "store")
    for _ in range(2):  # the second time nothing more goes
        assert ingest(more, tmp_path / "store", shrink_tables=True).meta.num_items == 2
    write_table(
        more, "items", [dict(item=number, category="tea") for number in ("x", "6", "7")]
    )  # as text: the same ids
    write_table(more, "users", [dict(user=2, age=5)])
    with pytest.raises(InputError, match="users: lacks 1 of the 2 rows"):
        ingest(more, tmp_path / "store")
    write_table(more, "taxonomy", TAXONOMY)
    assert ingest(more, tmp_path / "store", replace=True).meta.num_items == 3
