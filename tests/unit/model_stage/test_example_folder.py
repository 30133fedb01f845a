"""Sets of examples that runs share: found by what they depend on alone, whole or absent, never used damaged."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from model_stage.encoding.vocabulary import IdRows
from model_stage.training import example_folder
from model_stage.training.example_files import columns_of
from model_stage.training.example_folder import KEPT_SETS, ExampleFolder, ExampleKey, content_digest, opened_folder
from model_stage.training.examples import Examples
from store.lists import Lists
from store.publishing.kept import kept_generations
from tests.worlds.examples import make_example

KEY = ExampleKey(
    split="train",
    impressions="i",
    schema="s",
    vocabularies="v",
    newest=0,
    histories="",
    store="g",
    delta_sequence=3,
    search="c",
)
MADE = [make_example([3, 0, 9], seed) for seed in range(4)]


@pytest.fixture
def folder(tmp_path):
    return ExampleFolder(path=tmp_path / "examples")


def assert_same(found: Examples) -> None:
    for name, column in columns_of(MADE).items():
        holder = found if name in ("labels", "rows") else found.requests
        if name.startswith("multi_valued."):
            _, at, part = name.split(".")
            np.testing.assert_array_equal(holder.multi_valued[int(at)][part == "offsets"], column, name)
        else:
            np.testing.assert_array_equal(getattr(holder, name), column, name)


def test_a_set_is_found_by_its_key_and_by_no_other(folder):
    assert folder.find(KEY) is None
    assert_same(folder.write(KEY, iter(MADE)))
    assert_same(folder.find(KEY))
    for field in fields(KEY):
        value = getattr(KEY, field.name)
        other = value + 1 if isinstance(value, int) else "test" if field.name == "split" else f"{value}?"
        assert folder.find(replace(KEY, **{field.name: other})) is None, field.name
    assert_same(folder.find(KEY))  # asking for others removed nothing


def only_set(folder):
    root = folder.path / "train"
    (name,) = kept_generations(root)
    return root / "generations" / name


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["labels.npy", "pair_offsets.npy", "manifest.json"])
def test_a_damaged_set_is_removed_with_a_warning_and_written_anew(folder, damage, file, caplog):
    folder.write(KEY, MADE)
    damaged = only_set(folder)
    damage(damaged / file)
    with caplog.at_level(logging.WARNING):
        assert folder.find(KEY) is None
    assert file in caplog.text
    assert "retrieved anew" in caplog.text
    assert not damaged.exists()
    folder.write(KEY, MADE)
    assert_same(folder.find(KEY))


def test_a_set_that_was_not_finished_is_not_there(folder):
    def broken():
        yield MADE[0]
        raise RuntimeError("the searcher died")

    with pytest.raises(RuntimeError, match="died"):
        folder.write(KEY, broken())
    assert folder.find(KEY) is None
    assert [path.name for path in (folder.path / "train").iterdir()] == ["generations"]


def test_the_newest_sets_stay(folder, monkeypatch):
    monkeypatch.setattr(example_folder, "KEPT_SETS", 2)
    assert KEPT_SETS >= 2, "the two passes of the offline job"
    keys = [replace(KEY, impressions=str(number)) for number in range(4)]
    first = folder.write(keys[0], MADE)
    for key in keys[1:]:
        folder.write(key, MADE)
    assert [folder.find(key) is not None for key in keys] == [False, False, True, True]
    assert_same(first)  # what is mapped stays


def test_without_a_folder_what_was_written_vanishes(tmp_path, folder):
    with opened_folder(None, beside=tmp_path / "out") as made:
        examples = made.write(KEY, MADE)
        assert list((tmp_path / "out").iterdir()) == [made.path]
    assert list((tmp_path / "out").iterdir()) == []
    assert_same(examples)
    with opened_folder(folder) as given:
        assert given is folder


@dataclass
class Content:
    ids: np.ndarray
    names: dict
    lists: Lists


def test_a_digest_depends_on_everything_and_on_nothing_else():
    def content(**changes):
        made = {
            "ids": np.array([1, 2]),
            "names": {"a": ("x", 1), "b": None},
            "lists": Lists(values=np.array([5, 6]), offsets=np.array([0, 2, 2])),
        }
        return Content(**{**made, **changes})

    ids, rows = np.array([3, 7], np.uint64), np.array([1, 2])
    digest = content_digest(content())
    assert digest == content_digest(content(names={"b": None, "a": ("x", 1)}))
    others = [
        content(ids=np.array([1, 3])),
        content(ids=np.array([1, 2], np.int32)),
        content(ids=np.array([[1, 2]])),
        content(names={"a": ("x", 1)}),
        content(names={"a": ("x", 2), "b": None}),
        content(names={"a": ("x", "1"), "b": None}),
        content(names={"a": ("x",), "b": (1, None)}),
        content(lists=Lists(values=np.array([5, 6]), offsets=np.array([0, 1, 2]))),
    ]
    assert len({digest, *map(content_digest, others)}) == len(others) + 1
    assert content_digest(IdRows(ids=ids, rows=rows)) == content_digest(IdRows(ids=ids.copy(), rows=rows.copy()))
    with pytest.raises(AssertionError, match="object at"):
        content_digest([object()])
