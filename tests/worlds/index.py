"""What the tiny store and index of these tests are made of."""

from __future__ import annotations

from tests.worlds.datasets import build_store
from tests.worlds.search import behavior

TAXONOMY = [
    {"category": 1, "parent": None},
    {"category": 2, "parent": 1},
    {"category": 3, "parent": 2},
    {"category": 4, "parent": None},
]
ITEMS = [
    {"item": 11, "category": 3},
    {"item": 12, "category": 3},
    {"item": 13, "category": 4},
    {"item": 14, "category": None},
]
CATEGORY_VECTORS = {1: [1.0, 0.0], 2: [2.0, -0.0], 77: [9.0, 9.0]}
ITEM_VECTORS = {11: [3.0, 1.0], 99: [9.0, 9.0]}
MODEL = "20261122-000000-0000abcd"


def store_of(folder, items):
    """Builds a store of some items; gives its root."""
    return build_store(folder, taxonomy=TAXONOMY, items=items, behaviors=[behavior(1, 11, 1)])
