"""A tiny store, an export for it, and an index of both."""

from __future__ import annotations

import pytest

from search_stage.index.build import build_index
from store.behavior_store import BehaviorStore
from tests.worlds.index import CATEGORY_VECTORS, ITEM_VECTORS, ITEMS, MODEL, store_of
from tests.worlds.search import write_export


@pytest.fixture
def index_store(tmp_path):
    with BehaviorStore.open(store_of(tmp_path, ITEMS)) as store:
        yield store


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / MODEL, CATEGORY_VECTORS, ITEM_VECTORS)


@pytest.fixture
def index_root(tmp_path, index_store, export):
    build_index(export, index_store, tmp_path / "index")
    return tmp_path / "index"
