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
    from scripts.datasets.complete_journey.files import Journey
    from scripts.datasets.complete_journey.products import Catalog
    from store.types import F64, I64, Bool

    Triples = tuple[I64, I64, I64]
    """Households, coupons and campaigns, row by row."""


def build_impressions(journey: Journey, catalog: Catalog) -> pa.Table:
    """Gives one row per (household, coupon of a received campaign), ordered by time, household, coupon.

    Targets: `redeem`, the household redeemed this coupon of this campaign; `buy`, it bought a product that the coupon
    covered in this campaign, from the start to before the end date.
    """
    pool_coupon, pool_campaign, num_covers = _pool(journey)
    rows, pool_row = equal_pairs(journey.received.campaign, pool_campaign)
    household = journey.received.household[rows]
    coupon, campaign = pool_coupon[pool_row], pool_campaign[pool_row]
    time = journey.start_ms[campaign]
    order = np.lexsort((coupon, household, time))
    household, coupon, campaign, time = household[order], coupon[order], campaign[order], time[order]
    shown, popularity = (household, coupon, campaign), _popularity(journey, catalog, coupon, time)
    length_ms = journey.end_ms[campaign] - time
    return pa.table(
        {
            "user": household,
            "item": pa.array(coupon.astype(str), pa.string()),
            "timestamp_ms": time,
            "label_redeem": _redeemed(journey, shown).astype(np.int8),
            "label_buy": _bought(journey, shown).astype(np.int8),
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


def _redeemed(journey: Journey, shown: Triples) -> Bool:
    redeemed = journey.redemptions
    return _is_in((redeemed.household, redeemed.coupon, redeemed.campaign), shown)


def _bought(journey: Journey, shown: Triples) -> Bool:
    buys, coupons = journey.purchases, journey.coupons
    rows, cover = equal_pairs(buys.product, coupons.product)
    time, campaign = buys.timestamp_ms[rows], coupons.campaign[cover]
    during = (time >= journey.start_ms[campaign]) & (time < journey.end_ms[campaign])
    return _is_in((buys.household[rows[during]], coupons.coupon[cover[during]], campaign[during]), shown)


def _is_in(known: Triples, shown: Triples) -> Bool:
    there = set(zip(*(column.tolist() for column in known), strict=True))
    rows = zip(*(column.tolist() for column in shown), strict=True)
    return np.fromiter((row in there for row in rows), dtype=np.bool_, count=len(shown[0]))


def _popularity(journey: Journey, catalog: Catalog, coupon: I64, time: I64) -> dict[str, F64]:
    """Gives how often each coupon was redeemed, and anything in its category and any product it covers bought.

    Per 100 days, strictly before the time.
    """
    redeemed_at = np.searchsorted(catalog.coupon, journey.redemptions.coupon)
    asked = np.searchsorted(catalog.coupon, coupon)
    buys = journey.purchases
    rows, cover = equal_pairs(buys.product, catalog.cover_product)
    covering = np.repeat(np.arange(len(catalog.coupon)), np.diff(catalog.cover_offsets))[cover]
    counts = {
        "coupon_popularity": count_before(redeemed_at, journey.redemptions.day_ms, asked, time),
        "category_popularity": count_before(
            catalog.path_of_products(buys.product), buys.timestamp_ms, catalog.coupon_path[asked], time
        ),
        "covers_popularity": count_before(covering, buys.timestamp_ms[rows], asked, time),
    }
    first = int(journey.start_ms[1:].min())
    return {name: per_100_days(count, time, first) for name, (count, _) in counts.items()}
