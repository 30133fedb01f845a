"""Index generations: what building makes of an export, and what opening refuses."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from search_stage import IndexGeneration, Searcher, build_index
from search_stage.errors import CorruptIndexError, ExportError, IndexMismatchError
from store.errors import CorruptGenerationError, MissingGenerationError
from store.generation import GenerationWriter
from store.reading.behavior_store import BehaviorStore
from tests.helpers import build_store
from tests.search_world import behavior, write_export

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


@pytest.fixture
def store(tmp_path):
    root = build_store(tmp_path, taxonomy=TAXONOMY, items=ITEMS, behaviors=[behavior(1, 11, 1)])
    with BehaviorStore.open(root) as store:
        yield store


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "20261122-000000-0000abcd", CATEGORY_VECTORS, ITEM_VECTORS)


@pytest.fixture
def index_root(tmp_path, store, export):
    build_index(export, store, tmp_path / "index")
    return tmp_path / "index"


def vector_of(index, snapshot, *, item=None, category=None):
    taxonomy = snapshot.taxonomy
    find, key = (taxonomy.item_node, item) if item is not None else (taxonomy.category_node, category)
    return index.table[find(np.array([key], np.uint64))[0]].tolist()


def test_a_node_has_its_own_vector_or_its_nearest_categorys(store, index_root):
    index = IndexGeneration.open(index_root)
    with store.snapshot() as snapshot:
        assert vector_of(index, snapshot, item=11) == [3, 1]
        assert vector_of(index, snapshot, item=12) == [2, 0]
        assert vector_of(index, snapshot, category=3) == [2, 0]
        assert vector_of(index, snapshot, category=1) == [1, 0]
        assert vector_of(index, snapshot, item=13) == [0, 0]
        assert vector_of(index, snapshot, item=14) == [0, 0]
        assert index.table[snapshot.taxonomy.unmapped].tolist() == [0, 0]
        assert index.store_generation == snapshot.generation
    assert index.model == "20261122-000000-0000abcd"
    assert index.dim == 2


def test_equal_vectors_share_their_first_row(index_root):
    index = IndexGeneration.open(index_root)
    table, representative = np.asarray(index.table), index.representative
    for row in range(len(table)):
        equal = np.flatnonzero((table == table[row]).all(axis=1))
        assert representative[row] == equal[0]
    assert not np.signbit(table[table == 0]).any()


def test_a_folder_can_be_given_for_the_file_in_it(tmp_path, store, export):
    name = build_index(export.parent, store, tmp_path / "other")
    assert IndexGeneration.open(tmp_path / "other").name == name


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
def test_a_bad_export_is_refused_by_name_and_nothing_is_published(tmp_path, store, export, spoil, told):
    bad = tmp_path / "bad.safetensors"
    save_file(spoil(load_file(export)), bad)
    with pytest.raises(ExportError, match=told) as caught:
        build_index(bad, store, tmp_path / "index")
    assert str(bad) in str(caught.value)
    assert not (tmp_path / "index" / "CURRENT").exists()


@pytest.mark.parametrize("content", [None, b"not a tensor file"])
def test_an_unreadable_export_is_refused_by_name(tmp_path, store, content):
    path = tmp_path / "export.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"export\.safetensors.*lookback-model train"):
        build_index(path, store, tmp_path / "index")


def test_no_index_is_refused_with_what_to_run(tmp_path):
    with pytest.raises(MissingGenerationError, match="lookback-search build-index"):
        IndexGeneration.open(tmp_path)


@pytest.mark.parametrize("name", ["attention.npy", "representative.npy"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_index_is_refused_by_file(index_root, name, harm):
    path = next(index_root.glob(f"generations/*/{name}"))
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif harm == "truncate":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises((CorruptGenerationError, MissingGenerationError), match=r"build-index") as caught:
        IndexGeneration.open(index_root)
    assert str(path) in str(caught.value)


GOOD = {
    "attention.npy": np.array([[1, 2], [0, 0]], np.float32),
    "representative.npy": np.array([0, 1], np.uint32),
}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"attention.npy": np.array([[1, np.nan], [0, 0]], np.float32)}, "attention.npy.*not finite"),
        ({"attention.npy": np.array([[1, np.inf], [0, 0]], np.float32)}, "attention.npy.*not finite"),
        ({"attention.npy": np.array([[1, 2], [0, 1]], np.float32)}, "attention.npy.*last row"),
        ({"attention.npy": np.array([[1, 2], [0, 0]], np.float64)}, "attention.npy.*float64"),
        ({"attention.npy": np.zeros(2, np.float32)}, "attention.npy.*axes"),
        ({"attention.npy": np.zeros((0, 2), np.float32)}, "attention.npy"),
        ({"representative.npy": np.array([0, 2], np.uint32)}, "representative.npy"),
        ({"representative.npy": np.array([0], np.uint32)}, "representative.npy"),
        ({"representative.npy": b"junk"}, "representative.npy"),
        ({"representative.npy": b""}, "representative.npy"),
        ({"model": None}, r"manifest.json.*meta\.model"),
    ],
)
def test_a_whole_index_of_wrong_content_is_refused_by_file(tmp_path, spoil, told):
    with GenerationWriter(tmp_path, kind="index") as writer:
        for name, content in {**GOOD, **{k: v for k, v in spoil.items() if k in GOOD}}.items():
            if isinstance(content, bytes):
                (writer.path / name).write_bytes(content)
            else:
                np.save(writer.path / name, content)
        for key in {"taxonomy_fingerprint", "store_generation", "model"} - spoil.keys():
            writer.meta[key] = "x"
        writer.publish()
    with pytest.raises(CorruptIndexError, match=told):
        IndexGeneration.open(tmp_path)


def test_an_index_of_another_taxonomy_is_refused_with_what_to_run(tmp_path, index_root):
    other = build_store(
        tmp_path / "other",
        taxonomy=TAXONOMY,
        items=[*ITEMS, {"item": 15, "category": 1}],
        behaviors=[behavior(1, 11, 1)],
    )
    index = IndexGeneration.open(index_root)
    with BehaviorStore.open(other) as store, pytest.raises(IndexMismatchError, match="build-index") as caught:
        Searcher(store, index)
    assert str(index_root / "generations" / index.name) in str(caught.value)
