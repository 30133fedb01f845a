"""Converts the click log of a news portal (Globo.com, as published with CHAMELEON) to the input contract.

    python -m scripts.datasets.globo_news --data ../shared/data/globo_news --out work/globo_news

A click is a behavior of the domain `content`; its context (environment, device, ...) becomes side-info columns. The
table of articles is missing but for 247 rows, so most categories are inferred or unknown: docs/datasets.md says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from scripts.datasets.output import require_files, run_converter, write_dataset
from store.errors import InputError

if TYPE_CHECKING:
    from store.types import I64

CLICKS = "clicks.csv.gz"
METADATA = ("articles_metadata_partial_first_rows.csv", "articles_metadata_partial_95.csv")
CONTEXT = {
    "environment": "click_environment",
    "device": "click_deviceGroup",
    "os": "click_os",
    "country": "click_country",
    "region": "click_region",
    "referrer": "click_referrer_type",
}
"""Name of each side-info column, and the original one it is made of."""

UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Articles:
    """Every article that was clicked or is in the partial table, ascending by id."""

    article: I64
    category: I64
    """`UNKNOWN` where it follows neither from the table nor from the neighbours in it. (A,)"""
    is_listed: np.ndarray[tuple[int], np.dtype[np.bool_]]
    """Whether the partial table has the article: its category is a fact, the others' an inference. (A,)"""


def convert(data: Path, out: Path) -> dict[str, int]:
    """Writes the dataset directory of the original files in `data` and gives its counts.

    Args:
        data: Folder of the original CSV files.
        out: Dataset directory to write; replaced whole.

    Raises:
        InputError: A file of the originals is absent, two rows of the partial table contradict one another, or it is
            not ordered by category.
    """
    require_files(data, (CLICKS, *METADATA))
    clicks = pacsv.read_csv(data / CLICKS)
    listed, category = read_listed(data)
    articles = infer_categories(clicks["click_article_id"].to_numpy(), listed, category)
    tables = {
        "behaviors": behaviors_table(clicks),
        "taxonomy": taxonomy_table(category),
        "items": items_table(articles),
    }
    counts = count(clicks, articles, tables)
    write_dataset(out, tables, counts)
    return counts


def read_listed(data: Path) -> tuple[I64, I64]:
    """Gives the articles of the partial table, ascending, and the category of each; (L,) int64 both.

    Raises:
        InputError: The parts contradict one another, or the categories do not ascend with the articles.
    """
    parts = [pacsv.read_csv(data / file) for file in METADATA]
    pairs = np.concatenate([np.stack([part["article_id"], part["category_id"]], axis=1) for part in parts])
    pairs = np.unique(pairs.astype(np.int64), axis=0)
    article, category = pairs[:, 0].copy(), pairs[:, 1].copy()
    if bool(np.any(article[1:] == article[:-1])):
        raise InputError("the partial tables of articles give one article two categories")
    if bool(np.any(category[1:] < category[:-1])):
        raise InputError("the articles are not numbered by category: nothing can be inferred from their order")
    return article, category


def infer_categories(clicked: I64, listed: I64, category: I64) -> Articles:
    """Gives every article's category where it is listed, or where both its listed neighbours have the same.

    In the partial table articles ascend with their categories; if that holds for all of them, an article between two
    of one category has that one too::

        listed     10: 3    20: 3    30: 5
        article    10 -> 3  15 -> 3  20 -> 3  25 -> unknown (3, 4 or 5)  30 -> 5  35 -> unknown

    Args:
        clicked: Articles, any order and multiplicity. (N,)
        listed: Articles of the partial table, ascending. (L,)
        category: Theirs. (L,)
    """
    article = np.union1d(clicked, listed)
    below = np.searchsorted(listed, article, side="right") - 1
    above = np.searchsorted(listed, article, side="left")
    inside = (below >= 0) & (above < len(listed))
    lower = category[np.maximum(below, 0)]
    upper = category[np.minimum(above, len(listed) - 1)]
    return Articles(
        article=article,
        category=np.where(inside & (lower == upper), lower, UNKNOWN),
        is_listed=np.isin(article, listed),
    )


def behaviors_table(clicks: pa.Table) -> pa.Table:
    """Gives the clicks as a behaviors table, in time order, their context as categorical side-info."""
    time = clicks["click_timestamp"].to_numpy()
    clicks = clicks.take(np.argsort(time, kind="stable"))
    columns = {
        "user": clicks["user_id"],
        "item": clicks["click_article_id"],
        "category": pa.nulls(clicks.num_rows, pa.int64()),
        "domain": _constant("content", clicks.num_rows),
        "action": _constant("click", clicks.num_rows),
        "timestamp_ms": clicks["click_timestamp"],
    }
    # Codes of something: strings, so that the store takes them for categories and not for numbers.
    context = {name: clicks[original].cast(pa.string()) for name, original in CONTEXT.items()}
    return pa.table({**columns, **context})


def taxonomy_table(category: I64) -> pa.Table:
    """Gives the categories that are known to exist: one level."""
    categories = np.unique(category)
    return pa.table({"category": categories, "parent": pa.nulls(len(categories), pa.int64())})


def items_table(articles: Articles) -> pa.Table:
    """Gives the articles with their category, and whether that is a fact (`listed`) or an inference (`inferred`)."""
    unknown = articles.category == UNKNOWN
    source = np.where(unknown, "unknown", np.where(articles.is_listed, "listed", "inferred"))
    return pa.table(
        {
            "item": articles.article,
            "category": pa.array(articles.category, pa.int64(), mask=unknown),
            "category_source": pa.array(source.tolist(), pa.string()),
        }
    )


def count(clicks: pa.Table, articles: Articles, tables: dict[str, pa.Table]) -> dict[str, int]:
    """Gives the numbers by which a conversion is checked; see docs/datasets.md."""
    at = np.searchsorted(articles.article, clicks["click_article_id"].to_numpy())
    clicked = np.unique(at)
    known, listed = articles.category != UNKNOWN, articles.is_listed
    distinct = tables["behaviors"].group_by(["user", "item", "timestamp_ms"]).aggregate([]).num_rows
    return {
        "behaviors": clicks.num_rows,
        "behaviors_same_user_item_action_time": clicks.num_rows - distinct,
        "users": len(np.unique(clicks["user_id"].to_numpy())),
        "sessions": len(np.unique(clicks["session_id"].to_numpy())),
        "items": len(articles.article),
        "items_clicked": len(clicked),
        "items_listed": int(listed.sum()),
        "items_clicked_and_listed": int(listed[clicked].sum()),
        "items_clicked_category_inferred": int((known & ~listed)[clicked].sum()),
        "behaviors_category_listed": int(listed[at].sum()),
        "behaviors_category_inferred": int((known & ~listed)[at].sum()),
        "behaviors_category_unknown": int((~known)[at].sum()),
        "taxonomy_nodes": tables["taxonomy"].num_rows,
        "taxonomy_nodes_with_clicked_items": len(np.unique(articles.category[clicked][known[clicked]])),
    }


def _constant(word: str, num_rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(num_rows, np.int8), pa.array([word]))


if __name__ == "__main__":
    run_converter("Globo.com clicks", convert)
