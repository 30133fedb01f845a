"""Complete Journey's impressions: a household and each coupon of a campaign it received, at the campaign's start.

Side-info columns are what an ad system would send with the request: all of them follow from the campaign itself and
from events strictly before its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scripts.joins import count_before, equal_pairs, per_100_days
from store.types import DAY_MS

if TYPE_CHECKING:
    import numpy.typing as npt

    from scripts.datasets.complete_journey.files import Journey
    from scripts.datasets.complete_journey.products import Catalog
    from store.types import I64

    Flags = npt.NDArray[np.bool_]
    F64 = npt.NDArray[np.float64]


def build_impressions(journey: Journey, catalog: Catalog) -> pa.Table:
    """Gives one row per (household, coupon of a received campaign), ordered by time, household, coupon.

    Targets: `redeem`, the household redeemed this coupon of this campaign; `buy`, it bought a product that the coupon
    covered in this campaign, from the start to before the end date.
    """
    pool_coupon, pool_campaign, num_covers = _pool(journey)
    household, pool_row = _expand(journey, pool_campaign)
    coupon, campaign = pool_coupon[pool_row], pool_campaign[pool_row]
    time = journey.start_ms[campaign]
    order = np.lexsort((coupon, household, time))
    household, coupon, campaign, time = household[order], coupon[order], campaign[order], time[order]
    popularity = _popularity(journey, catalog, coupon, time)
    length_ms = journey.end_ms[campaign] - time
    return pa.table(
        {
            "user": household,
            "item": pa.array(coupon.astype(str), pa.string()),
            "timestamp_ms": time,
            "label_redeem": _redeemed(journey, household, coupon, campaign).astype(np.int8),
            "label_buy": _bought(journey, household, coupon, campaign).astype(np.int8),
            "campaign": pa.array([f"campaign {number}" for number in campaign.tolist()], pa.string()),
            "campaign_type": pa.array([journey.campaign_type[number] for number in campaign.tolist()], pa.string()),
            "campaign_days": (length_ms / DAY_MS).astype(np.float32),
            "num_covers": num_covers[pool_row][order].astype(np.float32),
            **{name: rate.astype(np.float32) for name, rate in popularity.items()},
        }
    )


def _pool(journey: Journey) -> tuple[I64, I64, I64]:
    """Gives the coupons of every campaign, by (campaign, coupon), with the number of products covered in it."""
    pairs = np.stack([journey.coupons.campaign, journey.coupons.coupon], axis=1)
    distinct, sizes = np.unique(pairs, axis=0, return_counts=True)
    return distinct[:, 1].copy(), distinct[:, 0].copy(), sizes.astype(np.int64)


def _expand(journey: Journey, pool_campaign: I64) -> tuple[I64, I64]:
    """Gives, per received campaign and coupon of its pool, the household and the row of the pool."""
    rows, pool_row = equal_pairs(journey.received.campaign, pool_campaign)
    return journey.received.household[rows], pool_row


def _redeemed(journey: Journey, household: I64, coupon: I64, campaign: I64) -> Flags:
    redeemed = journey.redemptions
    known = set(zip(redeemed.household.tolist(), redeemed.coupon.tolist(), redeemed.campaign.tolist(), strict=True))
    return _is_in(known, household, coupon, campaign)


def _bought(journey: Journey, household: I64, coupon: I64, campaign: I64) -> Flags:
    covered: dict[tuple[int, int], set[int]] = {}
    coupons = journey.coupons
    for number, product, name in zip(
        coupons.campaign.tolist(), coupons.product.tolist(), coupons.coupon.tolist(), strict=True
    ):
        covered.setdefault((number, product), set()).add(name)
    hits: set[tuple[int, int, int]] = set()
    for number in np.unique(coupons.campaign).tolist():
        time = journey.purchases.timestamp_ms
        rows = np.flatnonzero((time >= journey.start_ms[number]) & (time < journey.end_ms[number]))
        buyers, products = journey.purchases.household[rows].tolist(), journey.purchases.product[rows].tolist()
        for buyer, product in zip(buyers, products, strict=True):
            hits.update((buyer, name, number) for name in covered.get((number, product), ()))
    return _is_in(hits, household, coupon, campaign)


def _is_in(known: set[tuple[int, int, int]], household: I64, coupon: I64, campaign: I64) -> Flags:
    rows = zip(household.tolist(), coupon.tolist(), campaign.tolist(), strict=True)
    return np.fromiter((row in known for row in rows), dtype=np.bool_, count=len(household))


def _popularity(journey: Journey, catalog: Catalog, coupon: I64, time: I64) -> dict[str, F64]:
    """Gives how often each coupon was redeemed, and anything in its category and any product it covers bought.

    Per 100 days, strictly before the time.
    """
    redeemed_at = np.searchsorted(catalog.coupon, journey.redemptions.coupon)
    asked = np.searchsorted(catalog.coupon, coupon)
    buys = journey.purchases
    rows, covering = _covering_coupons(catalog, buys.product)
    counts = {
        "coupon_popularity": count_before(redeemed_at, journey.redemptions.day_ms, asked, time),
        "category_popularity": count_before(
            catalog.path_of_products(buys.product), buys.timestamp_ms, catalog.coupon_path[asked], time
        ),
        "covers_popularity": count_before(covering, buys.timestamp_ms[rows], asked, time),
    }
    first = int(journey.start_ms[1:].min())
    return {name: per_100_days(count, time, first) for name, (count, _) in counts.items()}


def _covering_coupons(catalog: Catalog, product: I64) -> tuple[I64, I64]:
    """Gives a (row of `product`, position of a coupon) pair for each coupon that covers it."""
    coupon = np.repeat(np.arange(len(catalog.coupon)), np.diff(catalog.cover_offsets))
    rows, cover = equal_pairs(product, catalog.cover_product)
    return rows, coupon[cover]
