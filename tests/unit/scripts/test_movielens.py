import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.datasets.movielens import convert
from scripts.datasets.movielens_impressions import impressions_table
from store.errors import InputError

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "movielens_latest_small"

FILES = {
    "movies.csv": [
        "movieId,title,genres",
        '1,"Toy, Story (1995)",Comedy|Animation',
        "2,Jumanji,Comedy",
        "3,Nothing (2001),(no genres listed)",
        "4,Other (1999) ,Animation|Comedy",
        "5,Comic (1998),Comedy|Drama",
    ],
    "ratings.csv": ["userId,movieId,rating,timestamp", "1,1,4.5,20", "1,2,3.0,10"],
    "tags.csv": ["userId,movieId,tag,timestamp", "1,1,2001,20", "1,1,funny,20"],
    "hetrec/movie_countries.dat": ["movieID\tcountry", "1\tUSA", "2\t"],
    "hetrec/movie_directors.dat": ["movieID\tdirectorID\tdirectorName", "1\tjohn_lasseter\tJohn Lasseter"],
}


def write_originals(folder: Path) -> Path:
    for name, lines in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, ""]), encoding="latin-1")
    return folder


def read(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    convert(write_originals(tmp_path / "originals"), tmp_path / "out")
    return tmp_path / "out"


def test_ratings_and_tags_are_behaviors_in_time_order(tiny: Path) -> None:
    rows = read(tiny, "behaviors")

    assert [(row["action"], row["item"], row["timestamp_ms"]) for row in rows] == [
        ("rate", 2, 10_000),
        ("rate", 1, 20_000),
        ("tag", 1, 20_000),
        ("tag", 1, 20_000),
    ]
    assert [row["rating"] for row in rows] == [3.0, 4.5, None, None]
    assert [row["tag"] for row in rows] == [None, None, "2001", "funny"]
    # Two tags of one second differ by their event ids, or the store would take them for one event.
    assert [row["event_id"] for row in rows] == [None, None, "1 2001", "1 funny"]


def test_a_set_of_genres_is_a_category_under_the_rarest_of_them(tiny: Path) -> None:
    parents = {row["category"]: row["parent"] for row in read(tiny, "taxonomy")}

    assert parents == {
        "Animation": None,
        "Comedy": None,
        "Drama": None,
        "Animation|Comedy": "Animation",
        "Comedy|Drama": "Drama",
    }


def test_movies_stand_under_their_genres_whatever_their_order(tiny: Path) -> None:
    items = {row["item"]: row for row in read(tiny, "items")}

    assert [items[movie]["category"] for movie in (1, 2, 3, 4)] == [
        "Animation|Comedy",
        "Comedy",
        None,
        "Animation|Comedy",
    ]
    assert [items[movie]["year"] for movie in (1, 2, 3, 4)] == [1995, None, 2001, 1999]
    assert [items[movie]["num_genres"] for movie in (1, 2, 3)] == [2, 1, 0]
    assert (items[1]["country"], items[1]["director"], items[2]["country"]) == ("USA", "john_lasseter", None)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    originals = write_originals(tmp_path / "originals")
    (originals / "hetrec" / "movie_directors.dat").unlink()

    with pytest.raises(InputError, match=r"movie_directors\.dat"):
        convert(originals, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real MovieLens files are not at {REAL}")
def test_the_real_files_give_the_published_counts(tmp_path: Path) -> None:
    counts = convert(REAL, tmp_path / "out")

    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts
    assert counts == {
        "behaviors": 104_519,
        "behaviors_rate": 100_836,
        "behaviors_tag": 3_683,
        "behaviors_same_user_item_action_time": 260,
        "users": 610,
        "items": 9_742,
        "items_with_behaviors": 9_742,
        "items_of_several_genres": 6_891,
        "items_without_genre": 34,
        "items_with_country": 6_616,
        "impressions": 224_125,
        "taxonomy_nodes": 951,
        "taxonomy_genres": 19,
    }


def test_a_request_is_what_a_user_rates_next_beside_what_was_popular_by_then() -> None:
    # User 7 rates movies 0 to 9 at times 100 to 109, all of a sudden the last two at one; user 3 rated 4 to 15 before.
    user = np.array([7] * 10 + [3] * 12)
    movie = np.array([*range(10), *range(4, 16)])
    time = np.array([*range(100, 109), 108, *range(50, 62)])
    rating = np.where(movie % 2, 4.0, 1.0)
    table = impressions_table(user, movie, rating, time, np.zeros(16, np.int64), least_ratings=1)
    rows = table.to_pylist()
    of_seven = [row for row in rows if row["user"] == 7]

    assert sorted({row["timestamp_ms"] for row in of_seven}) == [100, 108]
    watched = [(row["timestamp_ms"], row["item"], row["label_like"]) for row in of_seven if row["label_watch"]]
    assert watched == [(100 if m < 8 else 108, m, float(m % 2)) for m in range(10)]
    for row in of_seven:
        if not row["label_watch"]:
            assert row["label_like"] is None
            assert row["item"] > (7 if row["timestamp_ms"] == 100 else 9), "what it rates by then is no other"
            assert row["item"] in range(4, 16), "nobody had rated the others"
    assert len({(row["user"], row["timestamp_ms"], row["item"]) for row in rows}) == len(rows)
    first = next(row for row in of_seven if row["item"] == 5)
    assert (first["item_mean_rating"], first["user_mean_rating"]) == (4.0, None)
    later = next(row for row in of_seven if row["item"] == 9)
    assert later["user_mean_rating"] == pytest.approx(2.5)


def test_requests_are_of_users_with_enough_ratings_and_know_nothing_of_later_ones() -> None:
    draw = np.random.default_rng(0)
    user, movie, time = draw.integers(0, 6, 400), draw.integers(0, 30, 400), draw.integers(0, 50, 400)
    _, first = np.unique(user * 30 + movie, return_index=True)
    user, movie, time = user[first], movie[first], time[first]
    rating, category = draw.integers(1, 6, len(user)).astype(float), np.arange(30) % 4
    most = int(np.bincount(user).max())
    whole = impressions_table(user, movie, rating, time, category, most).to_pylist()
    assert {row["user"] for row in whole} == set(np.flatnonzero(np.bincount(user) == most))

    # A request's own row may end its block sooner; what comes with it follows from what was before.
    early = impressions_table(user, movie, np.where(time < 25, rating, 3.0), time, category, most).to_pylist()
    fields = ("item_popularity", "category_popularity", "item_mean_rating", "user_mean_rating")
    before = [[row[name] for name in ("user", "item", *fields)] for row in whole if row["timestamp_ms"] <= 25]
    assert before == [[row[name] for name in ("user", "item", *fields)] for row in early if row["timestamp_ms"] <= 25]
    assert len(before) > 20
