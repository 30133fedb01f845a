"""Reads the original Complete Journey files into typed columns; knows nothing of the input contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from scripts.datasets.output import require_files
from store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from store.types import I64, AnyArray

FILES = {
    "transactions": "transactions_sample.csv.gz",
    "products": "products.csv.gz",
    "campaigns": "campaigns.csv",
    "descriptions": "campaign_descriptions.csv",
    "coupons": "coupons.csv.gz",
    "redemptions": "coupon_redemptions.csv",
    "demographics": "demographics.csv",
}


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
                raise InputError(f"{FILES[name]}: campaign_id outside 1 .. {last}")


def read_journey(data: Path) -> Journey:
    """Reads the seven files the conversion needs.

    Raises:
        InputError: One of them is absent; names it.
    """
    require_files(data, FILES.values())
    tables = {name: pacsv.read_csv(data / file) for name, file in FILES.items()}
    buys, received, redeemed = tables["transactions"], tables["campaigns"], tables["redemptions"]
    start_ms, end_ms, kinds = _campaigns(tables["descriptions"])
    return Journey(
        purchases=Purchases(
            household=_ids(buys["household_id"]),
            product=_ids(buys["product_id"]),
            timestamp_ms=_ms(buys["transaction_timestamp"]),
        ),
        received=Received(household=_ids(received["household_id"]), campaign=_ids(received["campaign_id"])),
        coupons=_coupons(tables["coupons"]),
        redemptions=Redemptions(
            household=_ids(redeemed["household_id"]),
            coupon=_ids(redeemed["coupon_upc"]),
            campaign=_ids(redeemed["campaign_id"]),
            day_ms=_ms(redeemed["redemption_date"]),
        ),
        start_ms=start_ms,
        end_ms=end_ms,
        campaign_type=kinds,
        products=tables["products"],
        demographics=tables["demographics"],
    )


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
