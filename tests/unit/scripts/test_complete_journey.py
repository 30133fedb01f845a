import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.datasets.complete_journey.convert import convert
from scripts.datasets.complete_journey.files import PACKAGE, package_folder
from scripts.datasets.output import dataset_directory
from store.errors import InputError
from tests.worlds.journey import COUPON, OTHER_COUPON, write_originals, write_package_tables

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "complete_journey"


def read(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def ms(day: str) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    convert(write_originals(tmp_path / "originals"), tmp_path / "out")
    return tmp_path / "out"


def test_categories_are_full_paths_with_a_separator_that_is_in_no_name(tiny: Path) -> None:
    rows = {row["category"]: row for row in read(tiny, "taxonomy")}

    assert set(rows) == {
        "GROCERY",
        "GROCERY > FRZN ICE",
        "GROCERY > FRZN ICE > ICE - CRUSHED/CUBED",
        "MISC",
    }
    assert rows["GROCERY > FRZN ICE > ICE - CRUSHED/CUBED"]["parent"] == "GROCERY > FRZN ICE"
    assert rows["GROCERY"]["parent"] is None
    assert rows["GROCERY > FRZN ICE > ICE - CRUSHED/CUBED"]["name"] == "ICE - CRUSHED/CUBED"


def test_products_hang_under_their_deepest_known_category(tiny: Path) -> None:
    category = {row["item"]: row["category"] for row in read(tiny, "items")}

    assert category["100"] == "GROCERY > FRZN ICE > ICE - CRUSHED/CUBED"
    assert category["300"] == "GROCERY > FRZN ICE"
    assert category["400"] == "MISC"  # a type without a category has no place of its own
    assert category["1000000"] == "MISC"  # written 1e+06
    assert category["campaign 1"] is None


def test_a_coupon_covers_the_products_of_all_its_campaigns_and_stands_where_most_of_them_do(tiny: Path) -> None:
    items = {row["item"]: row for row in read(tiny, "items")}

    assert items[COUPON]["covers"] == [100, 200, 400]
    assert items[COUPON]["category"] == "GROCERY > FRZN ICE > ICE - CRUSHED/CUBED"
    assert items[OTHER_COUPON]["covers"] == [1_000_000]
    assert items["100"]["covers"] == []


def test_behaviors_are_purchases_receipts_and_redemptions_in_time_order(tiny: Path) -> None:
    rows = read(tiny, "behaviors")

    assert [row["timestamp_ms"] for row in rows] == sorted(row["timestamp_ms"] for row in rows)
    kinds = [(row["domain"], row["action"], row["item"]) for row in rows if row["user"] == 1]
    assert kinds == [
        ("content", "purchase", "100"),
        ("ad", "receive", "campaign 1"),
        ("ad", "redeem", COUPON),
        ("content", "purchase", "100"),
        ("ad", "receive", "campaign 2"),
    ]
    assert rows[0]["timestamp_ms"] == ms("2017-02-01T10:00:00")


def test_impressions_are_households_times_coupons_with_their_labels(tiny: Path) -> None:
    rows = read(tiny, "impressions")

    assert [(row["user"], row["item"], row["timestamp_ms"]) for row in rows] == [
        (1, COUPON, ms("2017-03-01")),
        (1, OTHER_COUPON, ms("2017-03-01")),
        (2, COUPON, ms("2017-03-01")),
        (2, OTHER_COUPON, ms("2017-03-01")),
        (1, COUPON, ms("2017-10-05")),
    ]
    assert [row["label_redeem"] for row in rows] == [1, 0, 0, 0, 0]
    # Household 2 bought product 200 at midnight of the end date; product 100 is not covered in campaign 2.
    assert [row["label_buy"] for row in rows] == [1, 0, 0, 0, 0]
    assert [row["num_covers"] for row in rows] == [2.0, 1.0, 2.0, 1.0, 1.0]
    assert rows[0]["campaign_type"] == "Type A"
    assert rows[0]["campaign_days"] == 19.0


def test_popularity_sees_strictly_earlier_events_only(tmp_path: Path) -> None:
    seen = {}
    for name, day, second in (("at_start", "2017-10-05", "00:00:00"), ("before", "2017-10-04", "23:59:59")):
        more = {
            "coupon_redemptions.csv": [f"2,{COUPON},1,{day}"],
            "transactions_sample.csv.gz": [f"2,9,5,100,x,{day} {second}"],
        }
        convert(write_originals(tmp_path / name / "originals", more), tmp_path / name / "out")
        last = read(tmp_path / name / "out", "impressions")[-1]
        seen[name] = {column: last[column] for column in last if column.endswith("popularity")}

    # The data begin on 2017-03-01, 218 days before; 30 days of damping. The category is ICE - CRUSHED/CUBED: all
    # purchases of products 100 and 200; the coupon covers these two and 400, which nobody bought.
    rate = 100.0 / 248.0
    assert seen["at_start"] == pytest.approx(
        {"coupon_popularity": rate, "category_popularity": 3 * rate, "covers_popularity": 3 * rate}
    )
    assert seen["before"] == pytest.approx(
        {"coupon_popularity": 2 * rate, "category_popularity": 4 * rate, "covers_popularity": 4 * rate}
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    originals = write_originals(tmp_path / "originals")
    (originals / "coupons.csv.gz").unlink()

    with pytest.raises(InputError, match=r"none of coupons\.parquet, coupons\.csv, coupons\.csv\.gz"):
        convert(originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_column_is_named(tmp_path: Path) -> None:
    originals = write_originals(tmp_path / "originals")
    (originals / "campaigns.csv").write_text("campaign_id,household\n1,1\n")

    with pytest.raises(InputError, match=r"campaigns\.csv: has no column household_id"):
        convert(originals, tmp_path / "out")


def test_the_tables_of_the_package_and_the_csv_files_give_one_dataset(tiny: Path, tmp_path: Path) -> None:
    counts = convert(write_package_tables(tmp_path / "package"), tmp_path / "parquet")

    assert json.loads((tiny / "counts.json").read_text()) == counts
    for table in ("behaviors", "taxonomy", "items", "users", "impressions"):
        assert pq.read_table(tmp_path / "parquet" / f"{table}.parquet").equals(pq.read_table(tiny / f"{table}.parquet"))


def test_the_package_is_found_where_it_is_installed_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert package_folder() is None

    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").write_text("raise AssertionError('imported')")
    sys.path_importer_cache.clear()
    assert package_folder() == tmp_path / PACKAGE / "data"


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")

    with pytest.raises(InputError, match="not a dataset directory"), dataset_directory(tmp_path):
        pytest.fail("must refuse before anything is written")
    assert (tmp_path / "precious").read_text() == "keep me"


def test_an_error_leaves_the_earlier_dataset(tiny: Path) -> None:
    def write_half() -> None:
        with dataset_directory(tiny) as building:
            (building / "counts.json").write_text("{}")
            raise RuntimeError("half way")

    before = (tiny / "counts.json").read_text()

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert (tiny / "counts.json").read_text() == before
    assert [path.name for path in tiny.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(package_folder() is None, reason=f"the package {PACKAGE} is not installed: the extra [data]")
def test_the_package_gives_the_published_counts_at_full_length(tmp_path: Path) -> None:
    counts = convert(package_folder(), tmp_path / "out")

    expected = {
        "behaviors": 1_477_998,
        "behaviors_purchase": 1_469_307,
        "behaviors_same_user_item_action_time": 27,
        "households_with_behaviors": 2_469,
        "impressions": 800_199,
        "positives_redeem": 2_075,
        "positives_buy": 39_470,
        "positives_buy_train": 12_871,
        "positives_buy_validation": 11_974,
        "positives_buy_test": 14_401,
    }
    assert {name: counts[name] for name in expected} == expected


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real Complete Journey files are not at {REAL}")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    counts = convert(REAL, tmp_path / "out")

    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts
    expected = {
        "behaviors": 108_691,
        "behaviors_purchase": 100_000,
        "behaviors_receive": 6_589,
        "behaviors_redeem": 2_102,
        "behaviors_same_user_item_action_time": 13,
        "households_with_demographics": 801,
        "taxonomy_nodes": 32 + 343 + 3_828,
        "coupons": 981,
        "impressions": 800_199,
        "positives_redeem": 2_075,
        "positives_buy": 9_154,
        "positives_redeem_test": 837,
        "positives_buy_test": 3_520,
    }
    assert {name: counts[name] for name in expected} == expected
