import pytest

from store.errors import InputError
from store.operations.taxonomy_check.check import check_dataset
from tests.worlds import sample
from tests.worlds.datasets import write_dataset, write_table


def category(key, parent=None, name=None, domain=None):
    return {"category": key, "parent": parent, "name": name, "domain": domain}


def check(tmp_path, **tables):
    return check_dataset(write_dataset(tmp_path / "in", **tables))


def cases(report, kind):
    return {
        (case.text, case.num_events) for finding in report.findings if finding.kind == kind for case in finding.cases
    }


def texts(report, kind):
    return {text for text, _ in cases(report, kind)}


def test_the_sample_has_no_error_and_its_oddities_are_told(tmp_path):
    report = check(tmp_path, **sample.tables())

    assert report.num_errors == 0
    assert [(tree.domain, tree.num_categories, tree.num_top, tree.leaf_depths) for tree in report.trees] == [
        ("", 4, 2, {1: 1, 2: 2}),
        ("content", 3, 2, {1: 1, 2: 1}),
    ]
    assert (report.num_bridges, report.num_items, report.num_items_in_tree) == (1, 4, 3)
    assert cases(report, "unbridged") == {("9 (not home) in the tree of domain 'content'", 0)}
    assert cases(report, "item-category-unknown") == {("404 in the ads' tree: 1 item", 1)}
    assert cases(report, "event-without-category") == {("domain 'content'", 1)}
    assert report.places is not None
    places = report.places
    # 70, 71 by item, 999 and 998 by category; 90 is known but under no category; 12345 has neither.
    assert (places.total, places.in_tree, places.item_only, places.unmapped) == (7, 5, 1, 1)


def test_every_fault_of_a_tree_is_reported_not_only_the_first(tmp_path):
    rows = [
        category(1),
        category(1, parent=2),
        category(2, parent=404),
        category(3, parent=405),
        category(10, parent=12),
        category(11, parent=10),
        category(12, parent=11),
        category(13, parent=12),
        category(20, parent=20),
        category("a", parent="b", domain="content"),
        category("b", parent="a", domain="content"),
        category("c", parent="zz", domain="content"),
    ]
    rows = [{**row, "category": str(row["category"]), "parent": row["parent"] and str(row["parent"])} for row in rows]
    report = check(tmp_path, taxonomy=rows)

    assert texts(report, "duplicate-category") == {"taxonomy.parquet:2: 1 stands already at taxonomy.parquet:1"}
    assert texts(report, "orphan") == {
        "taxonomy.parquet:3: parent 404 of 2",
        "taxonomy.parquet:4: parent 405 of 3",
        "taxonomy.parquet:12: parent zz of c",
    }
    first = {text.split(": ")[1].split(" -> ")[0] for text in texts(report, "cycle")}
    assert texts(report, "cycle") >= {"taxonomy.parquet:5: 10 -> 12 -> 11 -> 10", "taxonomy.parquet:9: 20 -> 20"}
    assert first <= {"10", "20", "a", "b"}
    messages = {finding.message for finding in report.findings if finding.kind == "cycle"}
    assert "categories of the ads' tree that are their own ancestors; 1 more hang below one" in messages
    assert "categories of the tree of domain 'content' that are their own ancestors" in messages
    assert report.num_errors == 7
    assert report.places is None
    with pytest.raises(StopIteration):
        next(finding for finding in report.findings if finding.num_events is not None)


def test_names_that_stand_in_several_places_are_told_apart_by_their_parents(tmp_path):
    rows = [category(1, name="x"), category(2, 1, "y"), category(3, name="z"), category(4, 3, "y"), category(5, 3, "x")]
    report = check(tmp_path, taxonomy=rows)

    assert texts(report, "duplicate-name") == {"'x': 1 under no other; 5 under 3", "'y': 2 under 1; 4 under 3"}
    assert report.num_errors == 0


def test_leaves_of_several_depths_are_counted(tmp_path):
    rows = [category(1), category(2, 1), category(3, 2), category(4, 1), category(5)]
    report = check(tmp_path, taxonomy=rows)

    assert texts(report, "ragged") == {"depth 1: 1 leaves", "depth 2: 1 leaves", "depth 3: 1 leaves"}
    assert texts(check(tmp_path / "flat", taxonomy=[category(1), category(2)]), "ragged") == set()


def test_a_tree_deeper_than_a_store_can_number_is_an_error(tmp_path):
    rows = [category(at, at - 1 if at else None) for at in range(252)]
    report = check(tmp_path, taxonomy=rows)

    assert texts(report, "too-deep") == {
        "taxonomy.parquet:251: 250 at depth 251",
        "taxonomy.parquet:252: 251 at depth 252",
    }


def test_every_faulty_bridge_is_reported(tmp_path):
    bridges = [
        {"domain": "content", "category": 100, "node": 1},
        {"domain": "content", "category": 100, "node": 2},
        {"domain": "content", "category": 404, "node": 1},
        {"domain": "content", "category": 101, "node": 405},
        {"domain": "live", "category": 7, "node": 1},
    ]
    report = check(tmp_path, **{**sample.tables(), "bridges": bridges})

    assert texts(report, "bridge-twice") == {"bridges.parquet:2: 'content' 100 -> 2"}
    assert texts(report, "bridge-category") == {"bridges.parquet:3: 'content' 404 -> 1"}
    assert texts(report, "bridge-node") == {"bridges.parquet:4: 'content' 101 -> 405"}
    assert texts(report, "bridge-domain") == {"bridges.parquet:5: 'live' 7 -> 1"}


def test_unbridged_categories_come_with_their_events_the_most_first(tmp_path):
    taxonomy = [
        category(1),
        *(category(key, domain="content") for key in (10, 11, 12)),
        category(13, 12, domain="content"),
    ]
    behaviors = [
        *(sample.event("u", item, 11, item, "content") for item in (1, 2, 3)),
        sample.event("u", 4, 13, 4, "content"),
        sample.event("u", 5, 10, 5, "content"),
        sample.event("u", 6, 11, 6, "ads"),
    ]
    items = [{"item": 3, "category": 13, "domain": "content"}]
    bridges = [{"domain": "content", "category": 10, "node": 1}]
    report = check(tmp_path, taxonomy=taxonomy, behaviors=behaviors, items=items, bridges=bridges)

    (finding,) = (finding for finding in report.findings if finding.kind == "unbridged")
    tree = "in the tree of domain 'content'"
    # Item 3 counts for the category of the items table; the ads' row of category 11 is of another tree.
    assert [(case.text, case.num_events) for case in finding.cases] == [
        (f"11 {tree}", 2),
        (f"13 {tree}", 2),
        (f"12 {tree}", 0),
    ]
    assert finding.num_events == 4
    assert cases(report, "event-category-unknown") == {("11 in the ads' tree", 1)}
    found = {finding["kind"]: finding for finding in report.as_json()["findings"]}
    assert found["unbridged"]["share"] == pytest.approx(4 / 6)


def test_items_in_several_categories_are_found_within_one_tree(tmp_path):
    taxonomy = [category(1), category(2), category(1, domain="content"), category(2, domain="content")]
    behaviors = [
        sample.event("u", "apple", 1, 1),
        sample.event("u", "apple", 2, 2),
        sample.event("u", "8", 1, 3),
        sample.event("u", "8", 2, 4, "content"),
        sample.event("u", "9", 1, 5),
        sample.event("u", "9", None, 6),
    ]
    items = [{"item": 9, "category": 2}, {"item": 8, "category": 1}]
    report = check(tmp_path, taxonomy=taxonomy, behaviors=behaviors, items=items)

    tree = "in the ads' tree"
    assert cases(report, "item-several-categories") == {
        (f"item apple: 1 {tree}; 2 {tree}", 2),
        (f"item 9: 1 {tree}; 2 {tree}", 1),
    }


def test_bad_rows_of_all_tables_are_errors_and_hide_nothing(tmp_path):
    tables = {
        "taxonomy": [category(1), category(None), category(2, 404)],
        "items": [{"item": 7, "category": 1}, {"item": 7, "category": 1}, {"item": None, "category": 1}],
        "behaviors": [sample.event("u", None, 1, 1), sample.event("u", 7, 1, 2)],
    }
    report = check(tmp_path, **tables)

    assert texts(report, "bad-row") == {
        "taxonomy.parquet:2: category: missing",
        "items.parquet:2: item: 7 stands already at line 1",
        "items.parquet:3: item: missing",
        "behaviors.parquet:1: item: missing",
    }
    assert texts(report, "orphan") == {"taxonomy.parquet:3: parent 404 of 2"}
    assert report.places is not None
    assert report.places.in_tree == 1
    assert [finding.is_error for finding in report.findings] == sorted(
        (finding.is_error for finding in report.findings), reverse=True
    )


def test_a_table_that_cannot_be_read_does_not_stop_the_check(tmp_path):
    folder = write_dataset(tmp_path / "in", taxonomy=[category(1), category(2, 404)])
    write_table(folder, "items", [{"product": 7}])
    (folder / "bridges.parquet").write_bytes(b"no parquet")
    report = check_dataset(folder)

    assert len(texts(report, "unreadable")) == 2
    assert texts(report, "orphan") == {"taxonomy.parquet:2: parent 404 of 2"}


def test_without_a_taxonomy_there_is_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        check_dataset(tmp_path / "absent")
    with pytest.raises(InputError, match=r"has no taxonomy\.parquet"):
        check_dataset(write_dataset(tmp_path / "in", items=[{"item": 1}]))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_both_kinds_of_files_give_one_report(tmp_path, suffix):
    report = check_dataset(write_dataset(tmp_path / "in", suffix=suffix, **sample.tables()))
    assert cases(report, "item-category-unknown") == {("404 in the ads' tree: 1 item", 1)}
    assert report.places is not None
    assert report.places.total == 7
