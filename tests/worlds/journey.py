"""Complete Journey tables small enough to count by hand, as CSV files and as the package's Parquet files."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

FILES = {
    "transactions_sample.csv.gz": (
        "household_id,store_id,basket_id,product_id,timestamp_ignored,transaction_timestamp",
        [
            "1,9,1,100,x,2017-02-01 10:00:00",
            "1,9,2,100,x,2017-03-05 10:00:00",  # covered, within campaign 1
            "2,9,3,300,x,2017-02-02 10:00:00",
            "2,9,4,200,x,2017-03-20 00:00:00",  # covered, but at the end date: outside
        ],
    ),
    "products.csv.gz": (
        "product_id,manufacturer_id,department,brand,product_category,product_type,package_size",
        [
            "100,7,GROCERY,National,FRZN ICE,ICE - CRUSHED/CUBED,22 LB",
            "200,7,GROCERY,Private,FRZN ICE,ICE - CRUSHED/CUBED,",
            "300,8,GROCERY,National,FRZN ICE,,",
            "400,8,MISC,National,,GAMES,",
            "1e+06,8,MISC,National,,,",
        ],
    ),
    "campaigns.csv": ("campaign_id,household_id", ["1,1", "1,2", "2,1"]),
    "campaign_descriptions.csv": (
        "campaign_id,campaign_type,start_date,end_date",
        ["1,Type A,2017-03-01,2017-03-20", "2,Type B,2017-10-05,2017-11-05"],
    ),
    "coupons.csv.gz": (
        "coupon_upc,product_id,campaign_id",
        ["50000000001,100,1", "50000000001,200,1", "50000000001,200,1", "50000000002,1e+06,1", "50000000001,400,2"],
    ),
    "coupon_redemptions.csv": (
        "household_id,coupon_upc,campaign_id,redemption_date",
        ["1,50000000001,1,2017-03-02"],
    ),
    "demographics.csv": (
        "household_id,age,income,home_ownership,marital_status,household_size,household_comp,kids_count",
        ["1,65+,35-49K,,Married,2,2 Adults No Kids,0"],
    ),
}

TYPES = {
    **dict.fromkeys(("household_id", "product_id", "manufacturer_id", "campaign_id", "coupon_upc"), pa.int64()),
    **dict.fromkeys(("transaction_timestamp", "start_date", "end_date", "redemption_date"), pa.timestamp("ns")),
}
"""Of the package's columns; all others that are read are strings."""

COUPON, OTHER_COUPON = "50000000001", "50000000002"


def write_originals(folder: Path, more: dict[str, list[str]] | None = None) -> Path:
    """Writes the files, with further rows per file name; pyarrow reads .gz by its name, so those are compressed."""
    folder.mkdir(parents=True)
    for name, (header, rows) in FILES.items():
        text = "\n".join([header, *rows, *(more or {}).get(name, [])]) + "\n"
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def write_package_tables(folder: Path) -> Path:
    """Writes the same rows as the package holds them: Parquet, whole ids, nanoseconds, null where a word is missing."""
    folder.mkdir(parents=True)
    for name, (header, rows) in FILES.items():
        text = "\n".join([header, *rows]) + "\n"
        read = pacsv.read_csv(
            io.BytesIO(text.encode()), convert_options=pacsv.ConvertOptions(strings_can_be_null=True, null_values=[""])
        )
        columns = {column: read[column].cast(TYPES.get(column, pa.string())) for column in read.column_names}
        table = name.split(".")[0].removesuffix("_sample")
        pq.write_table(pa.table(columns), folder / f"{table}.parquet")
    return folder
