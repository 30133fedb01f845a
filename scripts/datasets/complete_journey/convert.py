"""Converts the Complete Journey tables (84.51 / dunnhumby) to the input contract.

    python -m scripts.datasets.complete_journey --out work/complete_journey

A purchase is a behavior of the domain `content`, a campaign received and a coupon redeemed are behaviors of the domain
`ad`. An impression is (household, coupon of a campaign the household received, start of the campaign). What that means
and what the files cannot say stands in docs/datasets.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from scripts.datasets.complete_journey.files import Journey, read_journey
from scripts.datasets.complete_journey.impressions import build_impressions
from scripts.datasets.complete_journey.products import build_catalog, items_table, taxonomy_table
from scripts.datasets.output import write_dataset

TITLE = "Complete Journey"

SPLITS = {"train_from": "2017-02-01", "validation_from": "2017-08-01", "test_from": "2017-10-01"}
"""First campaign start of each split; campaigns before the first are history only."""


def convert(data: Path, out: Path) -> dict[str, int]:
    """Writes the dataset directory of the original files in `data` and gives its counts.

    Args:
        data: Folder of the original tables, Parquet or CSV.
        out: Dataset directory to write; replaced whole.

    Raises:
        InputError: An original table is absent or lacks a column; names it.
    """
    journey = read_journey(data)
    catalog = build_catalog(journey)
    impressions = build_impressions(journey, catalog)
    splits = {f"{name}_ms": int(np.datetime64(day, "ms").astype(np.int64)) for name, day in SPLITS.items()}
    tables = {
        "behaviors": behaviors_table(journey),
        "taxonomy": taxonomy_table(catalog),
        "items": items_table(journey, catalog),
        "users": users_table(journey),
        "impressions": impressions,
    }
    counts = count(journey, tables, splits)
    write_dataset(out, tables, counts, splits=splits)
    return counts


def behaviors_table(journey: Journey) -> pa.Table:
    """Gives purchases, campaigns received and coupons redeemed as one behaviors table, in time order."""
    buys, received, redeemed = journey.purchases, journey.received, journey.redemptions
    # A word, so that a campaign is no product's and no coupon's id.
    campaigns = np.char.add("campaign ", received.campaign.astype(str))
    parts = [
        (buys.household, buys.product.astype(str), buys.timestamp_ms, "content", "purchase"),
        (received.household, campaigns, journey.start_ms[received.campaign], "ad", "receive"),
        (redeemed.household, redeemed.coupon.astype(str), redeemed.day_ms, "ad", "redeem"),
    ]
    sizes = [len(part[0]) for part in parts]
    time = np.concatenate([part[2] for part in parts])
    order = np.argsort(time, kind="stable")
    return pa.table(
        {
            "user": np.concatenate([part[0] for part in parts])[order],
            "item": pa.array(np.concatenate([part[1] for part in parts])[order], pa.string()),
            "category": pa.nulls(len(time), pa.string()),
            "domain": pa.array(np.repeat([part[3] for part in parts], sizes)[order], pa.string()),
            "action": pa.array(np.repeat([part[4] for part in parts], sizes)[order], pa.string()),
            "timestamp_ms": time[order],
        }
    )


def users_table(journey: Journey) -> pa.Table:
    """Gives the demographics of the households that gave them; an empty answer is null."""
    columns = {"user": journey.demographics["household_id"].cast(pa.int64())}
    for name in journey.demographics.column_names[1:]:
        values = journey.demographics[name].cast(pa.string()).to_pylist()
        columns[name] = pa.array([value or None for value in values], pa.string())
    return pa.table(columns)


def count(journey: Journey, tables: dict[str, pa.Table], splits: dict[str, int]) -> dict[str, int]:
    """Gives the numbers by which a conversion is checked; see docs/datasets.md."""
    behaviors, impressions = tables["behaviors"], tables["impressions"]
    distinct = behaviors.group_by(["user", "item", "action", "timestamp_ms"]).aggregate([]).num_rows
    counts = {
        "behaviors": behaviors.num_rows,
        "behaviors_purchase": len(journey.purchases.household),
        "behaviors_receive": len(journey.received.household),
        "behaviors_redeem": len(journey.redemptions.household),
        "behaviors_same_user_item_action_time": behaviors.num_rows - distinct,
        "households_with_behaviors": len(np.unique(behaviors["user"].to_numpy())),
        "households_with_demographics": tables["users"].num_rows,
        "taxonomy_nodes": tables["taxonomy"].num_rows,
        "items": tables["items"].num_rows,
        "coupons": len(np.unique(journey.coupons.coupon)),
        "impressions": impressions.num_rows,
        "requests": impressions.group_by(["user", "timestamp_ms"]).aggregate([]).num_rows,
    }
    time = impressions["timestamp_ms"].to_numpy()
    bounds = [splits["train_from_ms"], splits["validation_from_ms"], splits["test_from_ms"]]
    split = np.searchsorted(bounds, time, side="right")
    for number, name in enumerate(("before_train", "train", "validation", "test")):
        counts[f"impressions_{name}"] = int((split == number).sum())
    for target in ("redeem", "buy"):
        label = impressions[f"label_{target}"].to_numpy()
        counts[f"positives_{target}"] = int(label.sum())
        for number, name in enumerate(("before_train", "train", "validation", "test")):
            counts[f"positives_{target}_{name}"] = int(label[split == number].sum())
    return counts
