import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scripts.datasets.movielens import convert
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
        "taxonomy_nodes": 951,
        "taxonomy_genres": 19,
    }
