"""Reads a dataset directory (docs/data.md, Parquet) into numbered columns for the baselines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from store.types import I64

F64 = npt.NDArray[np.float64]

ADS = "ad"
RESPONSES = ("redeem", "click")
"""Actions of the ads' domain that answer an ad; receiving or seeing one is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Behaviors of one kind, as columns of length N."""

    user: I64
    item: I64
    node: I64
    """Node of the ads' tree the behavior stands at, -1 = none. (N,)"""
    timestamp_ms: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The impressions as they stand in the file, as columns of length R."""

    user: I64
    item: I64
    node: I64
    """Node of the ads' tree of the candidate's category, -1 = unknown. (R,)"""
    timestamp_ms: I64
    labels: dict[str, F64]
    """By target: 0, 1, or NaN = unknown. (R,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """First time of each split, ms; a split ends where the next one starts."""

    train_from_ms: int
    validation_from_ms: int
    test_from_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What the baselines read. Users, items and nodes are numbered from 0 across all tables."""

    interests: Events
    """Behaviors outside the ads' domain: purchases, views."""
    responses: Events
    """Behaviors of the ads' domain that answer an ad."""
    shown: Shown
    parent: I64
    """Of each node of the ads' tree, -1 = top level."""
    cover_item: I64
    """Items that ads cover, one row per (ad, item)."""
    cover_ad: I64
    num_items: int
    first_ms: int
    """Time of the first behavior of all."""
    splits: Splits


def load_dataset(data: Path) -> Dataset:
    """Reads behaviors, taxonomy, bridges (where there are any), items, impressions and `splits.json`.

    Raises:
        FileNotFoundError: One of them is absent.
    """
    behaviors, items, shown = (_read(data, name) for name in ("behaviors", "items", "impressions"))
    taxonomy = _Taxonomy(data)
    users = _Numbers(behaviors["user"], shown["user"])
    covered = pc.list_flatten(items["covers"])
    names = _Numbers(items["item"], behaviors["item"], shown["item"], covered)
    domains = items["domain"] if "domain" in items.column_names else pa.nulls(items.num_rows, pa.string())
    node_of_item = np.full(len(names), -1, dtype=np.int64)
    node_of_item[names.of(items["item"])] = taxonomy.nodes(items["category"], domains)
    item = names.of(behaviors["item"])
    given = taxonomy.nodes(behaviors["category"], behaviors["domain"])
    node = np.where(node_of_item[item] >= 0, node_of_item[item], given)
    user, time = users.of(behaviors["user"]), behaviors["timestamp_ms"].to_numpy()

    def events(mask: pa.ChunkedArray) -> Events:
        rows = np.flatnonzero(mask.to_numpy())
        return Events(user=user[rows], item=item[rows], node=node[rows], timestamp_ms=time[rows])

    of_ads = pc.equal(behaviors["domain"], ADS)
    answers = pc.is_in(behaviors["action"], pa.array(RESPONSES))
    candidate = names.of(shown["item"])
    labels = [name for name in shown.column_names if name.startswith("label_")]
    return Dataset(
        interests=events(pc.invert(of_ads)),
        responses=events(pc.and_(of_ads, answers)),
        shown=Shown(
            user=users.of(shown["user"]),
            item=candidate,
            node=node_of_item[candidate],
            timestamp_ms=shown["timestamp_ms"].to_numpy(),
            labels={name.removeprefix("label_"): _floats(shown[name]) for name in labels},
        ),
        parent=taxonomy.parent,
        cover_item=names.of(covered),
        cover_ad=names.of(items["item"])[pc.list_parent_indices(items["covers"]).to_numpy()],
        num_items=len(names),
        first_ms=int(time.min()),
        splits=Splits(**json.loads((data / "splits.json").read_text(encoding="utf-8"))),
    )


def _read(data: Path, name: str) -> pa.Table:
    return pq.read_table(data / f"{name}.parquet").combine_chunks()


class _Numbers:
    """Numbers ids from 0, whatever their type: 105 and "105" are one id."""

    def __init__(self, *columns: pa.ChunkedArray) -> None:
        self._known = pc.unique(pa.chunked_array([chunk for column in columns for chunk in _texts(column).chunks]))

    def __len__(self) -> int:
        return len(self._known)

    def of(self, column: pa.ChunkedArray) -> I64:
        """Gives the numbers of some ids, -1 for null and for ids never seen."""
        found = pc.fill_null(pc.index_in(_texts(column), value_set=self._known, skip_nulls=True), -1)
        numbers: I64 = found.to_numpy().astype(np.int64)
        return numbers


class _Taxonomy:
    """The ads' tree, and the other domains' trees through their bridges."""

    def __init__(self, data: Path) -> None:
        table = pq.read_table(data / "taxonomy.parquet").to_pydict()
        num_rows = len(table["category"])
        rows = list(zip(table["category"], table["parent"], table.get("domain", [None] * num_rows), strict=True))
        ads = [(category, parent) for category, parent, domain in rows if not domain]
        number = {category: at for at, (category, _) in enumerate(ads)}
        self.parent = np.array([number.get(parent, -1) for _, parent in ads], dtype=np.int64)
        self._above = {(domain, category): parent for category, parent, domain in rows if domain}
        self._node = {("", category): node for category, node in number.items()}
        if (data / "bridges.parquet").is_file():
            bridges = pq.read_table(data / "bridges.parquet").to_pydict()
            for domain, category, node in zip(bridges["domain"], bridges["category"], bridges["node"], strict=True):
                self._node[(domain, category)] = number[node]
        self._domains = {domain for domain, _ in self._above}

    def nodes(self, categories: pa.ChunkedArray, domains: pa.ChunkedArray) -> I64:
        """Gives the ads' node of each category of a domain: its own, else its nearest bridged ancestor's, else -1."""
        pairs = pa.table({"domain": domains, "category": categories})
        distinct = pairs.group_by(["domain", "category"]).aggregate([]).to_pydict()
        keys = list(zip(distinct["domain"], distinct["category"], strict=True))
        resolved = {key: self._resolve(*key) for key in keys}
        if set(resolved.values()) == {-1}:
            return np.full(pairs.num_rows, -1, dtype=np.int64)
        rows = zip(pairs["domain"].to_pylist(), pairs["category"].to_pylist(), strict=True)
        return np.fromiter((resolved[row] for row in rows), dtype=np.int64, count=pairs.num_rows)

    def _resolve(self, domain: str | None, category: str | None) -> int:
        own = domain if domain in self._domains else ""
        while category is not None:
            node = self._node.get((own or "", category))
            if node is not None:
                return node
            category = self._above.get((own, category))
        return -1


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = pc.cast(column, pa.string())
    return texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts])


def _floats(column: pa.ChunkedArray) -> F64:
    values: F64 = pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy()
    return values
