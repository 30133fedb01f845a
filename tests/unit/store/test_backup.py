import shutil

import pytest

from store import BehaviorStore, InputError, MissingGenerationError, parse_id, rebuild, verify
from store.delta.delta import Delta
from store.errors import CorruptGenerationError, StoreIOError
from store.live_writer import LiveWriter
from store.operations.backup import backup
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations
from tests.worlds import living


@pytest.fixture
def root(tmp_path):
    return living.build(tmp_path)


def test_a_backup_is_a_store_with_the_same_content(root, tmp_path):
    living.append(root, [living.sample.event("late", 1, 1, 99)])
    report = backup(root, tmp_path / "copy")
    expected = verify(root)
    shutil.rmtree(root)
    found = verify(tmp_path / "copy")
    assert (found.digest, found.generation) == (expected.digest, expected.generation)
    assert found.delta == expected.delta
    assert report.generation == found.generation
    assert found.delta is not None
    assert report.last_sequence == found.delta.last_sequence
    assert report.size_bytes > 1000


def test_a_backup_goes_on_living_by_itself(root, tmp_path):
    backup(root, tmp_path / "copy")
    before = verify(root).digest
    result = living.append(tmp_path / "copy", [living.sample.event("late", 1, 1, 99)])
    assert result.num_accepted == 1
    rebuild(tmp_path / "copy")
    assert verify(tmp_path / "copy").num_behaviors == verify(root).num_behaviors + 1
    assert verify(root).digest == before


def test_only_the_current_generation_is_copied(root, tmp_path):
    assert len(kept_generations(root)) > 1
    backup(root, tmp_path / "copy")
    assert kept_generations(tmp_path / "copy") == [current_name(root, "store")]


def test_a_store_in_use_is_copied_as_of_one_moment(root, tmp_path):
    with BehaviorStore.open(root) as store, LiveWriter(store, now_ms=lambda: living.NOW_MS) as writer:
        writer.append(living.parse_rows([living.sample.event("during", 1, 1, 90)]))
        report = backup(root, tmp_path / "copy")
        writer.append(living.parse_rows([living.sample.event("after", 1, 1, 91)]))
    with BehaviorStore.open(tmp_path / "copy") as copy, copy.snapshot() as snapshot:
        assert len(snapshot.user(parse_id("during")).history()) == 1
        assert len(snapshot.user(parse_id("after")).history()) == 0
        assert snapshot.delta is not None
        assert snapshot.delta.last_sequence == report.last_sequence


def test_a_deleted_user_stays_deleted_in_the_copy(root, tmp_path):
    living.delete(root, parse_id("anna"))
    backup(root, tmp_path / "copy")
    with BehaviorStore.open(tmp_path / "copy") as copy, copy.snapshot() as snapshot:
        assert len(snapshot.user(parse_id("anna")).history()) == 0


def test_a_generation_that_vanishes_meanwhile_is_no_reason_to_fail(root, tmp_path, monkeypatch):
    opened = Delta.open
    calls = []

    def publish_first(at, **options):
        calls.append(at)
        if len(calls) == 1:
            rebuild(root, keep=1)  # the generation just copied is gone, and the delta behind it
        return opened(at, **options)

    expected = verify(root).digest
    monkeypatch.setattr("store.operations.backup.Delta.open", publish_first)
    report = backup(root, tmp_path / "copy")
    monkeypatch.undo()
    assert report.generation == current_name(root, "store")
    assert verify(tmp_path / "copy").digest == expected
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["CURRENT", "delta", "generations"]


def test_generations_that_never_stay_are_an_error(root, tmp_path, monkeypatch):
    monkeypatch.setattr("store.operations.backup._copy", lambda *_: None)
    with pytest.raises(StoreIOError, match="every generation was removed while it was copied"):
        backup(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_damage_is_not_copied(root, tmp_path):
    path = root / "generations" / current_name(root, "store") / "items" / "ids.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptGenerationError, match=r"ids\.npy"):
        backup(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_is_no_store_or_no_empty_folder_is_refused(root, tmp_path):
    with pytest.raises(MissingGenerationError):
        backup(tmp_path / "nothing", tmp_path / "copy")
    with pytest.raises(InputError, match="not empty"):
        backup(root, tmp_path)
