"""Building an index against plain twins: whose vector a node gets, equal rows, rounding, and what is carried over."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search_stage import IndexGeneration, build_index
from search_stage.index.build import BuildOptions
from search_stage.index.nearest import nearest_centroid
from search_stage.index.representatives import representatives, representatives_by_bytes
from search_stage.index.vectors import to_float32, to_stored
from store.behavior_store import BehaviorStore
from tests.worlds.datasets import build_store
from tests.worlds.search import behavior, write_export

CATEGORIES = range(1, 7)
ITEMS = range(100, 112)

vectors = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5]), min_size=2, max_size=2)
taxonomies = st.tuples(*(st.none() | st.integers(1, at) if at else st.none() for at in range(len(CATEGORIES)))).map(
    lambda parents: [{"category": at + 1, "parent": parent} for at, parent in enumerate(parents)]
)
item_tables = st.dictionaries(st.sampled_from(ITEMS), st.none() | st.sampled_from(CATEGORIES)).map(
    lambda items: [{"item": item, "category": category} for item, category in items.items()]
)
exports = st.tuples(
    st.dictionaries(st.sampled_from([*CATEGORIES, 77]), vectors),
    st.dictionaries(st.sampled_from([*ITEMS, 999]), vectors, min_size=1),
)


def plain_vectors(taxonomy, items, category_vectors, item_vectors):
    """Gives each known id's vector by walking up, as the documentation says it."""
    parent_of = {row["category"]: row["parent"] for row in taxonomy}

    def of_category(category):
        while category is not None and category not in category_vectors:
            category = parent_of[category]
        return [0.0, 0.0] if category is None else category_vectors[category]

    found = {(False, category): of_category(category) for category in parent_of}
    for row in items:
        found[True, row["item"]] = item_vectors.get(row["item"]) or of_category(row["category"])
    return found


def store_of(folder, taxonomy, items):
    return build_store(folder, taxonomy=taxonomy, items=items or None, behaviors=[behavior(1, 11, 1)])


@settings(max_examples=8, deadline=None)
@given(taxonomy=taxonomies, items=item_tables, later=item_tables, export=exports)
def test_every_node_gets_its_nearest_vector_also_when_built_on_an_older_index(taxonomy, items, later, export):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_export(folder / "model", *export)
        before = None
        for at, table in enumerate((items, later)):
            with BehaviorStore.open(store_of(folder / str(at), taxonomy, table)) as store:
                report = build_index(file, store, folder / "index")
                full = build_index(file, store, folder / "full", BuildOptions(full=True))
            index = IndexGeneration.open(folder / "index")
            wanted = plain_vectors(taxonomy, table, *export)
            keys = list(zip(index.is_item.tolist(), index.ids.tolist(), strict=True))
            assert set(keys) == wanted.keys()
            assert index.take(np.arange(len(keys))).tolist() == [list(map(abs, wanted[key])) for key in keys]
            plain = IndexGeneration.open(folder / "full")
            for part in ("table", "representative"):
                assert getattr(index, part).tobytes() == getattr(plain, part).tobytes()
            assert (full.meta.base, full.meta.num_carried) == ("", 0)
            if report.meta.base:
                old = dict(zip(before[0], before[1], strict=True))
                kept = [key for key in keys if key in old and old[key] == list(map(abs, wanted[key]))]
                assert report.meta.num_carried == len(kept)
            before = keys, [list(map(abs, wanted[key])) for key in keys]


@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.integers(0, 2)),
    st.sampled_from([np.uint16, np.float32]),
)
def test_equal_rows_are_found_as_by_sorting_them(rows, dtype):
    table = rows.astype(dtype)
    found = representatives(table)
    assert found.tolist() == representatives_by_bytes(table).tolist()
    assert found.tolist() == [int(np.flatnonzero((table == row).all(axis=1))[0]) for row in table]


def test_rows_whose_hashes_are_equal_are_told_apart():
    multiplier, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def after(word):  # what the hash is after the first word of a row
        mixed = word * multiplier & mask
        return mixed ^ mixed >> 32

    # The second word of each makes up for what the first one changed.
    rows = [[word, 5 ^ after(word)] for word in (1, 2, 3, 2, 1, 4)]
    table = np.array(rows, np.uint64).view(np.float32)
    assert representatives(table).tolist() == representatives_by_bytes(table).tolist() == [0, 1, 2, 1, 0, 5]


@st.composite
def points_and_centroids(draw):
    dim, count, num_points = draw(st.integers(1, 40)), draw(st.integers(1, 200)), draw(st.integers(0, 400))
    source = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-12, 1.0, 1e15]))
    return tuple((source.standard_normal((rows, dim)) * scale).astype(np.float32) for rows in (num_points, count))


@settings(deadline=None)
@given(points_and_centroids())
def test_the_nearest_centroid_is_as_near_as_by_plain_distances(drawn):
    points, centroids = drawn
    found = nearest_centroid(points, centroids)
    exact = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None].astype(np.float64), axis=2)
    # Scores of float32 tell distances apart up to the rounding of the products.
    slack = 1e-6 * (np.linalg.norm(points, axis=1) + np.linalg.norm(centroids, axis=1).max()) ** 2
    of_found = exact[np.arange(len(points)), found]
    assert found.dtype == np.uint16
    assert (of_found**2 <= exact.min(axis=1) ** 2 + slack).all()


@pytest.mark.parametrize("dim", [1, 2, 17])
def test_of_equally_near_centroids_it_is_the_first(dim):
    draw = np.random.default_rng(dim)
    # Small whole numbers: distances are exact.
    points = draw.integers(-2, 3, (500, dim)).astype(np.float32)
    centroids = draw.integers(-2, 3, (300, dim)).astype(np.float32)
    distances = ((points[:, None] - centroids[None]) ** 2).sum(axis=2)
    assert nearest_centroid(points, centroids).tolist() == distances.argmin(axis=1).tolist()
    for part in (slice(0, 0), slice(0, 1), slice(0, None, 2)):
        assert nearest_centroid(points[part], centroids).tolist() == distances[part].argmin(axis=1).tolist()


@given(hnp.arrays(np.float32, 20, elements=st.floats(-(2.0**59), 2.0**59, width=32)))
def test_a_bfloat16_is_the_nearest_one(values):
    stored = to_stored(values[:, None], "bfloat16")[:, 0]
    rounded = to_float32(stored).astype(np.float64)
    for value, bits, near in zip(values.tolist(), stored.tolist(), rounded.tolist(), strict=True):
        for other in (bits - 1, bits + 1):
            if other & 0x7FFF not in (0x7FFF, 0x7F80) and 0 <= other < 1 << 16:
                neighbor = float(to_float32(np.array([other], np.uint16))[0])
                further = abs(neighbor - value)
                assert abs(near - value) < further or (abs(near - value) == further and bits % 2 == 0)
