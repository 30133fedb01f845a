"""Complete Journey's product tree and its coupons as taxonomy and items of the input contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from scripts.datasets.complete_journey.files import Journey
    from store.types import I64

SEPARATOR = " > "
"""Joins the names of a path; no name contains it, while many contain '/'."""

LEVELS = ("department", "product_category", "product_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The tree, where each product hangs in it, and what each coupon covers.

    Coupon c covers `cover_product[cover_offsets[c]:cover_offsets[c + 1]]`, ascending.
    """

    paths: tuple[str, ...]
    """Full path of every category, ascending: its position is its number."""
    product: I64
    """Known product ids, ascending. (P,)"""
    product_path: I64
    """Number of the deepest known category of each product. (P,)"""
    coupon: I64
    """Coupon ids, ascending. (K,)"""
    coupon_path: I64
    """Number of the category most of a coupon's products share, -1 where none of them is known. (K,)"""
    cover_product: I64
    cover_offsets: I64
    """(K + 1,)"""

    def path_of_products(self, product: I64) -> I64:
        """Gives the category number of some products, -1 where the product is unknown."""
        at = np.minimum(np.searchsorted(self.product, product), len(self.product) - 1)
        return np.where(self.product[at] == product, self.product_path[at], -1)

    def category(self, numbers: I64) -> pa.Array:
        """Gives category ids (null for -1) as an Arrow string column."""
        return pa.array([self.paths[number] if number >= 0 else None for number in numbers.tolist()], pa.string())


def build_catalog(journey: Journey) -> Catalog:
    """Builds the tree from the products, and the coupons' products and categories.

    A type without a category (111 products) has no place of its own: its products hang under the department.
    """
    deepest = []
    for names in zip(*(journey.products[level].to_pylist() for level in LEVELS), strict=True):
        known = names.index("") if "" in names else len(names)
        deepest.append(SEPARATOR.join(names[:known]))
    paths: set[str] = set()
    for path in set(deepest):
        steps = path.split(SEPARATOR)
        paths.update(SEPARATOR.join(steps[:depth]) for depth in range(1, len(steps) + 1))
    ordered = tuple(sorted(paths))
    number = {path: position for position, path in enumerate(ordered)}
    product = journey.products["product_id"].to_numpy().astype(np.int64)
    order = np.argsort(product)
    pairs = np.unique(np.stack([journey.coupons.coupon, journey.coupons.product], axis=1), axis=0)
    coupon, first = np.unique(pairs[:, 0], return_index=True)
    catalog = Catalog(
        paths=ordered,
        product=product[order],
        product_path=np.array([number[path] for path in deepest], dtype=np.int64)[order],
        coupon=coupon,
        coupon_path=np.full(len(coupon), -1, dtype=np.int64),
        cover_product=pairs[:, 1].copy(),
        cover_offsets=np.append(first, len(pairs)).astype(np.int64),
    )
    catalog.coupon_path[:] = _most_shared(catalog)
    return catalog


def _most_shared(catalog: Catalog) -> I64:
    """Gives each coupon's category: the one most of its products hang under, ties by smallest path."""
    path = catalog.path_of_products(catalog.cover_product)
    coupon = np.repeat(np.arange(len(catalog.coupon)), np.diff(catalog.cover_offsets))
    known = path >= 0
    pairs, votes = np.unique(np.stack([coupon[known], path[known]], axis=1), axis=0, return_counts=True)
    # Paths are numbered in ascending order, so the smallest number is the smallest path.
    order = np.lexsort((pairs[:, 1], -votes, pairs[:, 0]))
    first = np.unique(pairs[order, 0], return_index=True)
    result = np.full(len(catalog.coupon), -1, dtype=np.int64)
    result[first[0]] = pairs[order, 1][first[1]]
    return result


def taxonomy_table(catalog: Catalog) -> pa.Table:
    """Gives the tree: departments, their product categories, their product types."""
    names = [path.split(SEPARATOR) for path in catalog.paths]
    parents = [SEPARATOR.join(name[:-1]) or None for name in names]
    return pa.table(
        {
            "category": pa.array(catalog.paths, pa.string()),
            "parent": pa.array(parents, pa.string()),
            "name": pa.array([name[-1] for name in names], pa.string()),
        }
    )


def items_table(journey: Journey, catalog: Catalog) -> pa.Table:
    """Gives products, coupons with what they cover, and campaigns; ids are strings throughout."""
    products = journey.products.take(np.argsort(journey.products["product_id"].to_numpy()))
    campaigns = np.unique(journey.received.campaign)
    num_products, num_coupons, num_campaigns = len(catalog.product), len(catalog.coupon), len(campaigns)
    num_covers = [0] * num_products + np.diff(catalog.cover_offsets).tolist() + [0] * num_campaigns
    offsets = np.concatenate(([0], np.cumsum(num_covers))).astype(np.int32)
    others = pa.nulls(num_coupons + num_campaigns, pa.string())
    campaign_ids = [f"campaign {campaign}" for campaign in campaigns.tolist()]
    path = np.concatenate((catalog.product_path, catalog.coupon_path, np.full(num_campaigns, -1)))
    return pa.table(
        {
            "item": pa.array(catalog.product.astype(str).tolist() + catalog.coupon.astype(str).tolist() + campaign_ids),
            "category": catalog.category(path),
            "covers": pa.ListArray.from_arrays(offsets, catalog.cover_product),
            "brand": pa.chunked_array([products["brand"].combine_chunks(), others]),
            "manufacturer": pa.chunked_array(
                [products["manufacturer_id"].cast(pa.string()).combine_chunks(), others],
            ),
        }
    )
