"""Opening an index generation: what it gives, and what is refused, by file."""

from __future__ import annotations

import numpy as np
import pytest

from search_stage import IndexGeneration, Searcher
from search_stage.errors import CorruptIndexError, IndexMismatchError
from store.behavior_store import BehaviorStore
from store.errors import CorruptGenerationError, MissingGenerationError
from store.publishing.generation import GenerationWriter, open_generation
from tests.worlds.index import ITEMS, MODEL, store_of

FILES = ("attention.npy", "representative.npy", "cluster.npy", "centroids.npy", "ids.npy", "is_item.npy")


def test_no_index_is_refused_with_what_to_run(tmp_path):
    with pytest.raises(MissingGenerationError, match="lookback-search build-index"):
        IndexGeneration.open(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "link"])
def test_a_damaged_index_is_refused_by_file(index_root, tmp_path, name, harm):
    path = next(index_root.glob(f"generations/*/{name}"))
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif harm == "truncate":
        path.write_bytes(content[:-1])
    elif harm == "remove":
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((CorruptGenerationError, MissingGenerationError), match=r"build-index") as caught:
        IndexGeneration.open(index_root)
    assert str(path) in str(caught.value)


def publish_changed(root, target, files=None, meta=None):
    """Publishes a copy of an index with some content replaced: whole by its manifest, and wrong."""
    opened = open_generation(root, "index")
    with GenerationWriter(target, kind="index") as writer:
        for name in FILES:
            content = (files or {}).get(name, (opened.path / name).read_bytes())
            if isinstance(content, bytes):
                (writer.path / name).write_bytes(content)
            else:
                np.save(writer.path / name, content)
        writer.meta.update({**opened.manifest.meta, **(meta or {})})
        for key in [key for key, value in writer.meta.items() if value is None]:
            del writer.meta[key]
        writer.publish()


def changed(row, column, value):
    """Gives a change of one number of an array."""

    def apply(array):
        array = np.array(array)
        array[row, column] = value
        return array

    return apply


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("attention.npy", changed(0, 1, np.nan), "attention.npy.*not finite"),
        ("attention.npy", changed(0, 1, np.inf), "attention.npy.*not finite"),
        ("attention.npy", changed(0, 1, 1e30), "attention.npy.*too large"),
        ("attention.npy", changed(-1, 0, 1), "attention.npy.*last row"),
        ("attention.npy", lambda table: table.astype(np.float64), "attention.npy.*float64"),
        ("attention.npy", lambda table: table.ravel(), "attention.npy.*promises"),
        ("attention.npy", lambda table: table[:, :1], "attention.npy.*promises"),
        ("attention.npy", lambda table: table[:0], "attention.npy"),
        ("representative.npy", lambda rows: rows + 1, "representative.npy.*does not fit"),
        ("representative.npy", lambda rows: rows[:-1], "representative.npy.*promises"),
        ("representative.npy", lambda rows: b"junk", "representative.npy.*no .npy file"),
        ("representative.npy", lambda rows: b"", "representative.npy.*no .npy file"),
        ("cluster.npy", lambda rows: rows + 100, "cluster.npy.*beyond"),
        ("cluster.npy", lambda rows: rows.astype(np.int64), "cluster.npy.*promises"),
        ("centroids.npy", changed(0, 0, np.nan), "centroids.npy.*not finite"),
        ("ids.npy", lambda ids: ids[1:], "ids.npy.*promises"),
    ],
)
def test_a_whole_index_of_wrong_content_is_refused_by_file(tmp_path, index_root, name, change, told):
    array = np.load(next(index_root.glob(f"generations/*/{name}")))
    publish_changed(index_root, tmp_path / "wrong", files={name: change(array)})
    with pytest.raises(CorruptIndexError, match=told):
        IndexGeneration.open(tmp_path / "wrong")


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"model": None}, r"manifest.json: meta\.model"),
        ({"dtype": "int8"}, r"manifest.json: meta\.dtype"),
        ({"more": 1}, r"manifest.json: meta\.more"),
        ({"index_format": None}, "index format None, this program reads 1"),
        ({"index_format": 2}, "index format 2, this program reads 1"),
        ({"num_clusters": 70_000}, r"meta\.num_clusters"),
        ({"dim": 3}, r"attention.npy.*promises"),
        ({"dtype": "bfloat16"}, r"attention.npy.*promises uint16"),
    ],
)
def test_a_manifest_of_other_facts_is_refused(tmp_path, index_root, meta, told):
    publish_changed(index_root, tmp_path / "wrong", meta=meta)
    with pytest.raises(CorruptIndexError, match=told):
        IndexGeneration.open(tmp_path / "wrong")


def test_an_unchanged_copy_is_not_refused(tmp_path, index_root):
    publish_changed(index_root, tmp_path / "copy")
    assert np.array_equal(IndexGeneration.open(tmp_path / "copy").table, IndexGeneration.open(index_root).table)


def test_an_index_of_another_taxonomy_is_refused_with_what_to_run(tmp_path, index_root):
    index = IndexGeneration.open(index_root)
    root = store_of(tmp_path / "other", [*ITEMS, {"item": 15, "category": 1}])
    with BehaviorStore.open(root) as store, pytest.raises(IndexMismatchError, match="build-index") as caught:
        Searcher(store, index)
    assert str(index_root / "generations" / index.name) in str(caught.value)


def test_an_index_of_another_model_is_refused_with_both_names(index_root):
    index = IndexGeneration.open(index_root)
    index.check_model(MODEL)
    with pytest.raises(IndexMismatchError, match=f"vectors of model {MODEL}, the model in use has those of other"):
        index.check_model("other")
