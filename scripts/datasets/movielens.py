"""Converts MovieLens (ml-latest-small, with HetRec-2011 countries and directors) to the input contract.

    python -m scripts.datasets.movielens --data ../shared/data/movielens_latest_small --out work/movielens

A rating and a tag are behaviors of the domain `content`. A movie has several genres and a place in the taxonomy has one
parent: the set of a movie's genres is its category, under the rarest genre of the set; docs/datasets.md says why.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from scripts.datasets.movielens_impressions import impressions_table, splits
from scripts.datasets.output import require_files, run_converter, write_dataset

RATINGS, TAGS, MOVIES = "ratings.csv", "tags.csv", "movies.csv"
COUNTRIES, DIRECTORS = "hetrec/movie_countries.dat", "hetrec/movie_directors.dat"

NO_GENRES = "(no genres listed)"
"""What the original writes for a movie without a genre."""
SEPARATOR = "|"
"""Joins the genres of a movie, ascending; no genre contains it."""

_YEAR = re.compile(r"\((\d{4})\)\s*$")
_SECOND_MS = 1000


def convert(data: Path, out: Path, least_ratings: int = 1) -> dict[str, int]:
    """Writes the dataset directory of the original files in `data` and gives its counts.

    Args:
        data: Folder of the original files.
        out: Dataset directory to write; replaced whole.
        least_ratings: Impressions are of users with so many ratings at least; the behaviors are all users'.

    Raises:
        InputError: A file of the originals is absent; names it.
    """
    require_files(data, (RATINGS, TAGS, MOVIES, COUNTRIES, DIRECTORS))
    movies = pacsv.read_csv(data / MOVIES)
    genres = [_genres(text) for text in movies["genres"].to_pylist()]
    ratings = pacsv.read_csv(data / RATINGS)
    tables = {
        "behaviors": behaviors_table(ratings, _read_tags(data / TAGS)),
        "taxonomy": taxonomy_table(genres),
        "items": items_table(movies, genres, data),
        "impressions": _impressions(ratings, movies, genres, least_ratings),
    }
    counts = count(tables, genres)
    write_dataset(out, tables, counts, splits=splits(ratings["timestamp"].to_numpy() * _SECOND_MS))
    return counts


def _impressions(ratings: pa.Table, movies: pa.Table, genres: list[tuple[str, ...]], least_ratings: int) -> pa.Table:
    ids, (user, movie) = movies["movieId"].to_numpy(), (ratings[name].to_numpy() for name in ("userId", "movieId"))
    order = np.argsort(ids)
    sets = np.unique([SEPARATOR.join(listed) for listed in genres], return_inverse=True)[1]
    table = impressions_table(
        user,
        order[np.searchsorted(ids[order], movie)],
        ratings["rating"].to_numpy(),
        ratings["timestamp"].to_numpy() * _SECOND_MS,
        sets,
        least_ratings,
    )
    return table.set_column(table.column_names.index("item"), "item", pa.array(ids[table["item"].to_numpy()]))


def behaviors_table(ratings: pa.Table, tags: pa.Table) -> pa.Table:
    """Gives ratings and tags as one behaviors table, in time order.

    A user may give one movie several tags in one second, so a tag has an event id; a rating needs none.
    """
    events = [f"{movie} {tag}" for movie, tag in zip(tags["movieId"].to_pylist(), tags["tag"].to_pylist(), strict=True)]
    tags = tags.append_column("event_id", pa.array(events, pa.string()))
    both = pa.concat_tables([ratings, tags], promote_options="default").combine_chunks()
    seconds = both["timestamp"].to_numpy()
    table = pa.table(
        {
            "user": both["userId"],
            "item": both["movieId"],
            "category": pa.nulls(len(seconds), pa.string()),
            "domain": pa.array(["content"] * len(seconds)),
            "action": pa.array(["rate"] * ratings.num_rows + ["tag"] * tags.num_rows),
            "timestamp_ms": seconds * _SECOND_MS,
            "event_id": both["event_id"],
            "rating": both["rating"].cast(pa.float32()),
            "tag": both["tag"],
        }
    )
    return table.take(np.argsort(seconds, kind="stable"))


def taxonomy_table(genres: list[tuple[str, ...]]) -> pa.Table:
    """Gives the genres, and under each the sets of several genres of which it is the rarest.

    Args:
        genres: Of each movie, ascending.
    """
    counts = Counter(genre for listed in genres for genre in listed)
    rows: dict[str, str | None] = dict.fromkeys(sorted(counts))
    for listed in sorted({listed for listed in genres if len(listed) > 1}):
        rows[SEPARATOR.join(listed)] = min(listed, key=lambda genre: (counts[genre], genre))
    return pa.table(
        {"category": pa.array(list(rows), pa.string()), "parent": pa.array(list(rows.values()), pa.string())}
    )


def items_table(movies: pa.Table, genres: list[tuple[str, ...]], data: Path) -> pa.Table:
    """Gives the movies with title, category and side-info: release year, number of genres, country, director."""
    movie = movies["movieId"].to_pylist()
    countries, directors = _hetrec(data / COUNTRIES), _hetrec(data / DIRECTORS)
    years = [_YEAR.search(title) for title in movies["title"].to_pylist()]
    return pa.table(
        {
            "item": pa.array(movie, pa.int64()),
            "category": pa.array([SEPARATOR.join(listed) or None for listed in genres], pa.string()),
            "name": movies["title"].combine_chunks(),
            "year": pa.array([int(year[1]) if year else None for year in years], pa.int32()),
            "num_genres": pa.array([len(listed) for listed in genres], pa.int32()),
            "country": pa.array([countries.get(key) for key in movie], pa.string()),
            "director": pa.array([directors.get(key) for key in movie], pa.string()),
        }
    )


def count(tables: dict[str, pa.Table], genres: list[tuple[str, ...]]) -> dict[str, int]:
    """Gives the numbers by which a conversion is checked; see docs/datasets.md."""
    behaviors, items, taxonomy = tables["behaviors"], tables["items"], tables["taxonomy"]
    distinct = behaviors.group_by(["user", "item", "action", "timestamp_ms"]).aggregate([]).num_rows
    num_tags = behaviors.num_rows - behaviors["tag"].null_count
    return {
        "behaviors": behaviors.num_rows,
        "behaviors_rate": behaviors.num_rows - num_tags,
        "behaviors_tag": num_tags,
        "behaviors_same_user_item_action_time": behaviors.num_rows - distinct,
        "users": len(np.unique(behaviors["user"].to_numpy())),
        "items": items.num_rows,
        "items_with_behaviors": len(np.unique(behaviors["item"].to_numpy())),
        "items_of_several_genres": sum(len(listed) > 1 for listed in genres),
        "items_without_genre": sum(not listed for listed in genres),
        "items_with_country": items.num_rows - items["country"].null_count,
        "impressions": tables["impressions"].num_rows,
        "taxonomy_nodes": taxonomy.num_rows,
        "taxonomy_genres": taxonomy["parent"].null_count,
    }


def _genres(text: str) -> tuple[str, ...]:
    return () if text == NO_GENRES else tuple(sorted(text.split(SEPARATOR)))


def _read_tags(path: Path) -> pa.Table:
    # A tag may look like a number ("2001"): it is a word all the same.
    return pacsv.read_csv(path, convert_options=pacsv.ConvertOptions(column_types={"tag": pa.string()}))


def _hetrec(path: Path) -> dict[int, str]:
    """Gives the second column of a tab-separated latin-1 file by the movie in the first; empty ones left out."""
    lines = path.read_text(encoding="latin-1").splitlines()[1:]
    fields = [line.split("\t") for line in lines]
    return {int(field[0]): field[1] for field in fields if field[1]}


if __name__ == "__main__":
    run_converter("MovieLens", convert)
