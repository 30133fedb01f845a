"""Reads a dataset directory (docs/data.md) into numbered columns for the baselines, by the store's own readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_stage.config.schema import load_yaml
from model_stage.training.impressions import Splits
from store.dataset.bad_rows import BadRows
from store.dataset.impressions import read_impressions
from store.dataset.parsing import WordPool, times
from store.dataset.readers import find_files, read_batches
from store.dataset.side_tables import IdPools, read_bridges, read_categories, read_items
from store.dataset.table_reader import TableReader
from store.errors import InputError
from store.taxonomy.numbering import build_taxonomy
from store.vocabulary import MAX_CODES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from store.taxonomy.taxonomy import Taxonomy
    from store.types import F32, I64, U32, U64, AnyArray, Bool

ADS = "ad"
RESPONSES = ("redeem", "click")
"""Actions of the ads' domain that answer an ad; receiving or seeing one is none."""
_COLUMNS = ("user", "item", "category", "domain", "action", "timestamp_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Behaviors of one kind, or impressions, as columns of length N."""

    user: I64
    item: I64
    node: U32
    """Node of the category that the item stands under, else of the event's own; `Taxonomy.unmapped` = none. (N,)"""
    timestamp_ms: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What the baselines read. Users and items are numbered from 0 across all tables."""

    interests: Events
    """Behaviors outside the ads' domain: purchases, views."""
    responses: Events
    """Behaviors of the ads' domain that answer an ad."""
    shown: Events
    """The impressions as they stand in the files; R rows."""
    labels: Mapping[str, F32]
    """By target: 0, 1, or NaN = unknown. (R,)"""
    taxonomy: Taxonomy
    cover_item: I64
    """Items that ads cover, one row per (ad, item); where no ad covers any, each covers itself."""
    cover_ad: I64
    num_items: int
    first_ms: int
    """Time of the first behavior of all."""
    splits: Splits


def load_dataset(data: Path) -> Dataset:
    """Reads behaviors, taxonomy, bridges and items (where there are any), impressions and `splits.json`.

    Raises:
        InputError: One of them is absent or breaks the input contract.
        ConfigError: `splits.json` is absent or wrong.
    """
    tables, pools = TableReader([data], BadRows(max_bad_rows=0)), IdPools()
    categories, bridges, items = read_categories(tables, pools), read_bridges(tables, pools), read_items(tables, pools)
    taxonomy, covers = build_taxonomy(categories, bridges, items.rows), items.covers
    done, impressions = _read_behaviors(data, pools), read_impressions(data)
    time, domains = done["timestamp_ms"], done["domain"]
    (user, shown_user), _ = _number(done["user"], impressions.user)
    (item, shown_item, ad, cover_item), num_items = _number(done["item"], impressions.item, covers.ids, covers.values)
    node = _node_above(taxonomy, done["item"])
    for domain in np.unique(domains):
        rows = np.flatnonzero((node == taxonomy.unmapped) & (domains == domain))
        node[rows] = taxonomy.category_node(done["category"][rows], domain)

    def events(rows: Bool) -> Events:
        return Events(user=user[rows], item=item[rows], node=node[rows], timestamp_ms=time[rows])

    cover_ad = np.repeat(ad, np.diff(covers.offsets))
    if len(cover_ad) == 0:
        # Where nothing stands for anything else, candidates are the things that users have.
        cover_ad = cover_item = np.unique(shown_item)
    of_ads = domains == ADS
    return Dataset(
        interests=events(~of_ads),
        responses=events(of_ads & np.isin(done["action"], RESPONSES)),
        shown=Events(
            user=shown_user,
            item=shown_item,
            node=_node_above(taxonomy, impressions.item),
            timestamp_ms=impressions.timestamp_ms,
        ),
        labels={target: impressions.label(target) for target in impressions.targets},
        taxonomy=taxonomy,
        cover_item=cover_item,
        cover_ad=cover_ad,
        num_items=num_items,
        first_ms=int(time.min()),
        splits=load_yaml(data / "splits.json", Splits),
    )


def _read_behaviors(data: Path, pools: IdPools) -> dict[str, AnyArray]:
    """Gives the columns of all behaviors as they stand in the files: ids, words and times. Each (N,)."""
    bad_rows, domains, actions = BadRows(max_bad_rows=0), WordPool("domain", MAX_CODES), WordPool("action", MAX_CODES)
    files = find_files(data, "behaviors", many=True)
    if not files:
        raise InputError(f"{data}: has no behaviors.parquet, .csv or .csv.gz; docs/data.md says what they hold")
    parts: dict[str, list[AnyArray]] = {name: [] for name in _COLUMNS}
    for batch in (batch for file in files for batch in read_batches(file, set(_COLUMNS), set(), bad_rows, free=True)):
        parts["user"].append(pools.users.column(batch, "user", required=True))
        parts["item"].append(pools.items.column(batch, "item", required=True))
        parts["category"].append(pools.categories.column(batch, "category", required=False))
        parts["domain"].append(domains.required(batch, "domain"))
        parts["action"].append(actions.required(batch, "action"))
        parts["timestamp_ms"].append(times(batch, "timestamp_ms"))
        batch.report(bad_rows)
    columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    for name, pool in (("domain", domains), ("action", actions)):
        columns[name] = np.array(pool.words())[columns[name]]
    return columns


def _node_above(taxonomy: Taxonomy, items: U64) -> U32:
    """Gives the node of each item's category, `unmapped` where the taxonomy has none."""
    node: U32 = taxonomy.ancestors(taxonomy.item_node(items), 2)[:, 1].copy()
    return node


def _number(*columns: U64) -> tuple[list[I64], int]:
    """Gives ids as numbers from 0, the same number for the same id in every column, and how many there are."""
    known, number = np.unique(np.concatenate(columns), return_inverse=True)
    return np.split(number, np.cumsum([len(column) for column in columns])[:-1]), len(known)
