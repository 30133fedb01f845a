import errno
import os

import pytest

from store.errors import InputError, StoreIOError
from store.publishing.folder import building_folder, size_of


def test_a_folder_appears_whole_when_all_is_well(tmp_path):
    target = tmp_path / "new" / "out"
    with building_folder(target) as building:
        (building / "inner").mkdir()
        (building / "inner" / "file").write_text("12345")
        assert not target.exists()
    assert (target / "inner" / "file").read_text() == "12345"
    assert target.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path):
    with building_folder(tmp_path / "out") as building:
        (building / "file").touch()
    with pytest.raises(InputError, match="not empty"), building_folder(tmp_path / "out"):
        pytest.fail("must refuse before anything is written")
    with pytest.raises(InputError, match="not empty"), building_folder(tmp_path / "out" / "file"):
        pytest.fail("a file is no folder")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_a_full_disk_is_the_operators_business_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreIOError, match="No space left"), building_folder(tmp_path / "out") as building:
        (building / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_of_all_files_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"1234")
    assert size_of(tmp_path) == 7
    assert size_of(tmp_path / "y") == 4
    assert size_of(tmp_path / "nothing") == 0
