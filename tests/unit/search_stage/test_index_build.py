"""Building an index generation: what it makes of an export, what it carries over, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from search_stage import IndexGeneration, build_index
from search_stage.errors import ExportError, IndexCheckError
from search_stage.index.build import BuildOptions, roll_back_index
from search_stage.index.vectors import to_float32, to_stored
from store.behavior_store import BehaviorStore
from store.errors import LockedError, MissingGenerationError
from store.publishing.kept import LOCK_FILE, kept_generations
from store.publishing.lock import FileLock
from tests.worlds.datasets import build_store
from tests.worlds.index import CATEGORY_VECTORS, ITEM_VECTORS, ITEMS, MODEL, TAXONOMY, store_of
from tests.worlds.search import behavior, write_export


def vector_of(index, snapshot, *, item=None, category=None):
    taxonomy = snapshot.taxonomy
    find, key = (taxonomy.item_node, item) if item is not None else (taxonomy.category_node, category)
    return index.take(find(np.array([key], np.uint64)))[0].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_node_has_its_own_vector_or_its_nearest_categorys(tmp_path, index_store, export, dtype):
    report = build_index(export, index_store, tmp_path / "index", BuildOptions(dtype=dtype))
    index = IndexGeneration.open(tmp_path / "index")
    with index_store.snapshot() as snapshot:
        assert vector_of(index, snapshot, item=11) == [3, 1]
        assert vector_of(index, snapshot, item=12) == [2, 0]
        assert vector_of(index, snapshot, category=3) == [2, 0]
        assert vector_of(index, snapshot, category=1) == [1, 0]
        assert vector_of(index, snapshot, item=13) == [0, 0]
        assert vector_of(index, snapshot, item=14) == [0, 0]
        assert index.take(np.array([snapshot.taxonomy.unmapped])).tolist() == [[0, 0]]
        assert index.store_generation == snapshot.generation
        assert index.ids.tolist() == snapshot.taxonomy.id.tolist()
        assert index.is_item.tolist() == snapshot.taxonomy.is_item.tolist()
    assert (index.model, index.dim, index.dtype) == (MODEL, 2, dtype)
    assert (report.generation, report.meta) == (index.name, index.meta)
    meta = index.meta
    assert (meta.num_nodes, meta.num_own, meta.num_inherited, meta.num_without) == (8, 3, 2, 3)
    assert (meta.num_distinct, meta.num_clusters, meta.check.num_users) == (4, 2, 0)


def test_equal_vectors_share_their_first_row_and_their_cluster(index_root):
    index = IndexGeneration.open(index_root)
    table = np.asarray(index.table)
    for row in range(len(table)):
        equal = np.flatnonzero((table == table[row]).all(axis=1))
        assert index.representative[row] == equal[0]
        assert len(set(index.cluster[equal])) == 1
    assert not np.signbit(table[table == 0]).any()


def test_each_row_has_the_nearest_centroid(index_root):
    index = IndexGeneration.open(index_root)
    distance = np.linalg.norm(index.table[:, None, :] - index.centroids[None], axis=2)
    assert distance[np.arange(len(distance)), index.cluster] == pytest.approx(distance.min(axis=1))


@pytest.mark.parametrize("item_vectors", [{}, ITEM_VECTORS])
@pytest.mark.parametrize("category_vectors", [{}, CATEGORY_VECTORS])
def test_an_export_may_lack_a_part(tmp_path, index_store, category_vectors, item_vectors):
    if not category_vectors and not item_vectors:
        return
    build_index(write_export(tmp_path / "m", category_vectors, item_vectors), index_store, tmp_path / "index")
    with index_store.snapshot() as snapshot:
        vector = vector_of(IndexGeneration.open(tmp_path / "index"), snapshot, item=11)
    assert vector == ([3, 1] if item_vectors else [2, 0])


def test_a_folder_can_be_given_for_the_file_in_it(tmp_path, index_store, export):
    name = build_index(export.parent, index_store, tmp_path / "other").generation
    assert IndexGeneration.open(tmp_path / "other").name == name


def test_a_dry_run_tells_everything_and_writes_nothing(tmp_path, index_store, export):
    planned = build_index(export, index_store, tmp_path / "index", BuildOptions(dry_run=True))
    assert not (tmp_path / "index").exists()
    assert planned.generation == ""
    made = build_index(export, index_store, tmp_path / "index")
    assert (planned.meta, planned.sizes) == (made.meta, made.sizes)


def change(**tensors):
    def apply(given):
        return {name: tensors.get(name, value) for name, value in given.items() if tensors.get(name, 0) is not None}

    return apply


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (change(item_ids=None), "item_ids and item_vectors are needed"),
        (change(item_ids=np.array([1.0, 2.0])), "item_ids must be int64"),
        (change(item_ids=np.array([5, 5])), "item_ids must be distinct"),
        (change(item_ids=np.array([5, -1])), "item_ids must be distinct"),
        (change(item_vectors=np.zeros((3, 2), np.float32)), r"item_vectors must be float32 \(2, d\)"),
        (change(item_vectors=np.zeros((2, 2))), "item_vectors must be float32"),
        (change(item_vectors=np.zeros((2, 3), np.float32)), "one common number of dimensions"),
        (change(item_vectors=np.full((2, 2), np.nan, np.float32)), "item_vectors must be finite"),
        (change(item_vectors=np.full((2, 2), 1e30, np.float32)), "item_vectors must be finite"),
    ],
)
def test_a_bad_export_is_refused_by_name_and_nothing_is_published(tmp_path, index_store, export, spoil, told):
    bad = tmp_path / "bad.safetensors"
    save_file(spoil(load_file(export)), bad)
    with pytest.raises(ExportError, match=told) as caught:
        build_index(bad, index_store, tmp_path / "index")
    assert str(bad) in str(caught.value)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("content", [None, b"not a tensor file"])
def test_an_unreadable_export_is_refused_by_name(tmp_path, index_store, content):
    path = tmp_path / "export.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"export\.safetensors.*lookback-model train"):
        build_index(path, index_store, tmp_path / "index")


@pytest.mark.parametrize(("value", "dtype"), [(1e6, "float16"), (1e-9, "float16")])
def test_vectors_that_the_type_cannot_hold_are_refused(tmp_path, index_store, value, dtype):
    export = write_export(tmp_path / "m", {1: [value, 0.0]}, {})
    with pytest.raises(IndexCheckError, match=r"dtype: float16 cannot hold"):
        build_index(export, index_store, tmp_path / "index", BuildOptions(dtype=dtype))
    assert not (tmp_path / "index").exists()
    build_index(export, index_store, tmp_path / "index", BuildOptions(dtype="bfloat16"))


NEW = [{"item": 16, "category": 2}, {"item": 10, "category": 3}, {"item": 99, "category": 4}]
"""16 and 10 inherit a vector, the export knows 99."""


@pytest.mark.parametrize("items", [[*NEW, *ITEMS], ITEMS[1:], [{"item": 12, "category": 1}, *ITEMS[2:]]])
def test_an_incremental_build_equals_a_full_one_but_for_the_clusters(tmp_path, index_root, export, items):
    base = IndexGeneration.open(index_root)
    with BehaviorStore.open(store_of(tmp_path / "next", items)) as store:
        report = build_index(export, store, index_root)
        full = build_index(export, store, tmp_path / "full")
    index, other = IndexGeneration.open(index_root), IndexGeneration.open(tmp_path / "full")
    assert (report.meta.base, full.meta.base) == (base.name, "")
    for part in ("table", "representative", "ids", "is_item"):
        assert getattr(index, part).tobytes() == getattr(other, part).tobytes(), part
    assert index.centroids.tobytes() == base.centroids.tobytes()
    assert index.meta.model_copy(
        update={key: getattr(other.meta, key) for key in ("base", "num_carried", "store_generation")}
    ) == other.meta.model_copy(update={"num_clusters": index.meta.num_clusters})
    distance = np.linalg.norm(index.table[:, None, :] - index.centroids[None], axis=2)
    assert distance[np.arange(len(distance)), index.cluster] == pytest.approx(distance.min(axis=1))


def test_only_rows_of_the_same_vector_are_carried_over(tmp_path, index_root, export):
    items = [{"item": 11, "category": 3}, {"item": 12, "category": 1}, *ITEMS[2:], {"item": 15, "category": 3}]
    with BehaviorStore.open(store_of(tmp_path / "next", items)) as store:
        meta = build_index(export, store, index_root).meta
    # 12 has moved under a category of another vector, 15 is new.
    assert (meta.num_nodes, meta.num_carried) == (9, 7)


def other_model(tmp_path, store, root):
    export = write_export(tmp_path / "other-model", CATEGORY_VECTORS, ITEM_VECTORS)
    return build_index(export, store, root)


def other_export(tmp_path, store, root):
    export = write_export(tmp_path / MODEL, CATEGORY_VECTORS, {11: [3.0, 2.0]})
    return build_index(export, store, root)


def other_type(tmp_path, store, root):
    return build_index(tmp_path / MODEL, store, root, BuildOptions(dtype="float16"))


def asked_for(tmp_path, store, root):
    return build_index(tmp_path / MODEL, store, root, BuildOptions(full=True))


def damaged(tmp_path, store, root):
    path = next(root.glob("generations/*/cluster.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    return build_index(tmp_path / MODEL, store, root)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (other_model, f"is of another export: model {MODEL}, not other-model"),
        (other_export, f"is of another export of model {MODEL}"),
        (other_type, "stores float32, not float16"),
        (asked_for, "asked for"),
        (damaged, r"cannot be used .*cluster\.npy"),
    ],
)
def test_nothing_is_carried_over_where_it_does_not_belong_and_it_says_why(
    tmp_path, index_store, index_root, build, reason
):
    report = build(tmp_path, index_store, index_root)
    assert re.search(reason, report.reason)
    assert (report.meta.base, report.meta.num_carried) == ("", 0)
    assert IndexGeneration.open(index_root).name == report.generation


def test_more_vectors_get_more_clusters(tmp_path, index_root):
    items = [{"item": 100 + at, "category": 3} for at in range(60)]
    vectors = {100 + at: [float(at), 1.0] for at in range(60)}
    with BehaviorStore.open(store_of(tmp_path / "next", items)) as store:
        export = write_export(tmp_path / MODEL, CATEGORY_VECTORS, vectors)
        assert build_index(export, store, index_root).meta.num_clusters == 8


def test_old_generations_go_and_one_can_go_back(tmp_path, index_store, export):
    root = tmp_path / "index"
    names = [build_index(export, index_store, root, BuildOptions(keep=2)).generation for _ in range(3)]
    assert kept_generations(root) == names[1:]
    assert roll_back_index(root) == names[1] == IndexGeneration.open(root).name
    assert roll_back_index(root, names[2]) == names[2] == IndexGeneration.open(root).name
    with pytest.raises(MissingGenerationError, match="no such index generation"):
        roll_back_index(root, names[0])
    report = build_index(export, index_store, root, BuildOptions(keep=1))
    assert report.removed == tuple(names[1:])
    with pytest.raises(MissingGenerationError, match="no generation before"):
        roll_back_index(root)


def test_going_back_to_a_damaged_one_is_refused(tmp_path, index_store, export):
    root = tmp_path / "index"
    first, second = (build_index(export, index_store, root).generation for _ in range(2))
    path = root / "generations" / first / "attention.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match=r"attention\.npy"):
        roll_back_index(root)
    assert IndexGeneration.open(root).name == second


def test_two_do_not_publish_at_once(index_store, index_root, export):
    before = IndexGeneration.open(index_root).name
    with FileLock(index_root / LOCK_FILE, "test"), pytest.raises(LockedError, match="held by process"):
        build_index(export, index_store, index_root)
    assert IndexGeneration.open(index_root).name == before


def long_world(folder, item_vectors):
    """A store with one user who did something with every item, and an export."""
    items = [{"item": item, "category": 3} for item in item_vectors]
    rows = [behavior(1, item, at + 1) for at, item in enumerate(item_vectors)]
    root = build_store(folder, taxonomy=TAXONOMY, items=items, behaviors=rows)
    return root, write_export(folder / MODEL, {}, item_vectors)


def test_the_self_check_measures_recall_and_refuses_below_the_bar(tmp_path):
    generator = np.random.default_rng(0)
    vectors = {item: vector.tolist() for item, vector in enumerate(generator.standard_normal((2000, 8)), start=100)}
    root, export = long_world(tmp_path, vectors)
    with BehaviorStore.open(root) as store:
        check = build_index(export, store, tmp_path / "index", BuildOptions(min_recall=0)).meta.check
        assert (check.num_users, check.top_k, check.probes) == (1, 50, 4)
        # Noise: no clusters to speak of, but more than the share that is looked at.
        assert check.scored < check.recall < 1
        with pytest.raises(IndexCheckError, match=r"recall: .* 1 sampled users, 1\.000 is asked for"):
            build_index(export, store, tmp_path / "other", BuildOptions(min_recall=1))
        assert not (tmp_path / "other").exists()


def test_a_table_of_real_clusters_is_found_nearly_whole_by_looking_at_few(tmp_path):
    generator = np.random.default_rng(0)
    centers = 10 * generator.standard_normal((32, 8))
    points = np.repeat(centers, 64, axis=0) + 0.1 * generator.standard_normal((2048, 8))
    root, export = long_world(tmp_path, {item: point.tolist() for item, point in enumerate(points, start=100)})
    with BehaviorStore.open(root) as store:
        check = build_index(export, store, tmp_path / "index").meta.check
    assert check.recall > 0.95
    assert check.scored < 0.25


def test_stored_types_round_to_nearest_even_and_back():
    values = np.array([[1.0, -0.0, 1e-30, -1e-30, 3.140625, 1.00390625, 1.01171875, -65504.0]], np.float32)
    half, brain = to_stored(values, "float16"), to_stored(values, "bfloat16")
    assert not np.signbit(to_float32(half)[0, 1:4]).any()
    assert to_float32(half)[0, 4:].tolist() == [3.140625, 1.00390625, 1.01171875, -65504.0]
    # 1 + 2**-8 lies between two bfloat16 numbers: to the even one, below; 1 + 3 * 2**-8 to the even one above.
    assert to_float32(brain)[0, 4:].tolist() == [3.140625, 1.0, 1.015625, -65536.0]
    assert to_float32(to_stored(values, "float32")).dtype == np.float32
