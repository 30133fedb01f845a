import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.datasets.globo_news import UNKNOWN, convert, infer_categories
from store.errors import InputError

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "globo_news"

HEADER = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
    "click_deviceGroup,click_os,click_country,click_region,click_referrer_type"
)
CLICKS = [
    "5,1,1000,2,15,2000,4,3,20,1,20,2",
    "5,1,1000,2,25,1500,2,3,20,1,20,7",
    "0,2,1000,1,35,1500,4,1,17,11,25,1",
]
LISTED = {
    "articles_metadata_partial_first_rows.csv": ["10,3,9,0,168", "20,3,9,0,189"],
    "articles_metadata_partial_95.csv": ["20,3,9,0,189", "30,5,9,0,100"],
}


def write_originals(folder: Path, listed: dict[str, list[str]] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "clicks.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *CLICKS, ""]).encode()))
    for name, rows in {**LISTED, **(listed or {})}.items():
        text = "\n".join(["article_id,category_id,created_at_ts,publisher_id,words_count", *rows, ""])
        (folder / name).write_text(text)
    return folder


def read(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    convert(write_originals(tmp_path / "originals"), tmp_path / "out")
    return tmp_path / "out"


def test_clicks_are_behaviors_in_time_order_with_their_context_as_words(tiny: Path) -> None:
    rows = read(tiny, "behaviors")

    assert [(row["user"], row["item"], row["timestamp_ms"]) for row in rows] == [
        (5, 25, 1500),
        (0, 35, 1500),
        (5, 15, 2000),
    ]
    assert rows[0] == {
        "user": 5,
        "item": 25,
        "category": None,
        "domain": "content",
        "action": "click",
        "timestamp_ms": 1500,
        "environment": "2",
        "device": "3",
        "os": "20",
        "country": "1",
        "region": "20",
        "referrer": "7",
    }


def test_a_category_is_known_between_two_listed_articles_of_one_category_only(tiny: Path) -> None:
    items = {row["item"]: (row["category"], row["category_source"]) for row in read(tiny, "items")}

    assert items == {
        10: (3, "listed"),
        15: (3, "inferred"),
        20: (3, "listed"),
        25: (None, "unknown"),
        30: (5, "listed"),
        35: (None, "unknown"),
    }
    assert [row["category"] for row in read(tiny, "taxonomy")] == [3, 5]


@given(
    truth=st.lists(st.integers(0, 4), min_size=1, max_size=30).map(sorted),
    listed=st.sets(st.integers(0, 29), min_size=1),
)
def test_no_inference_is_wrong_where_articles_are_numbered_by_category(truth: list[int], listed: set[int]) -> None:
    known = np.array(sorted(at for at in listed if at < len(truth)), np.int64)
    if not len(known):
        known = np.array([0])
    category = np.array(truth)

    articles = infer_categories(np.arange(len(truth)), known, category[known])

    inferred = articles.category != UNKNOWN
    assert np.array_equal(articles.category[inferred], category[inferred])
    assert inferred[articles.is_listed].all()


@pytest.mark.parametrize(
    ("listed", "message"),
    [(["10,4,9,0,168"], "one article two categories"), (["40,1,9,0,168"], "not numbered by category")],
)
def test_a_table_that_allows_no_inference_is_refused(tmp_path: Path, listed: list[str], message: str) -> None:
    rows = LISTED["articles_metadata_partial_95.csv"] + listed
    originals = write_originals(tmp_path / "originals", {"articles_metadata_partial_95.csv": rows})

    with pytest.raises(InputError, match=message):
        convert(originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    originals = write_originals(tmp_path / "originals")
    (originals / "clicks.csv.gz").unlink()

    with pytest.raises(InputError, match=r"clicks\.csv\.gz"):
        convert(originals, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real Globo.com files are not at {REAL}")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    counts = convert(REAL, tmp_path / "out")

    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts
    assert counts == {
        "behaviors": 2_988_181,
        "behaviors_same_user_item_action_time": 0,
        "users": 322_897,
        "sessions": 1_048_594,
        "items": 46_139,
        "items_clicked": 46_033,
        "items_listed": 247,
        "items_clicked_and_listed": 141,
        "items_clicked_category_inferred": 6_996,
        "behaviors_category_listed": 91_775,
        "behaviors_category_inferred": 1_023_186,
        "behaviors_category_unknown": 1_873_220,
        "taxonomy_nodes": 53,
        "taxonomy_nodes_with_clicked_items": 52,
    }
