import gc
import shutil
import threading

import numpy as np
import pytest

from store import (
    NO_ID,
    BehaviorStore,
    CorruptGenerationError,
    CorruptRecordError,
    MissingGenerationError,
    StoreClosedError,
    parse_id,
)
from store.base.files import BaseReader, BaseWriter
from store.errors import StoreIOError
from store.publishing.generation import GenerationWriter, open_generation
from tests.worlds import sample
from tests.worlds.blocks import block_of_records
from tests.worlds.datasets import build_store

ANNA = parse_id("anna")


@pytest.fixture
def root(tmp_path):
    return build_store(tmp_path, **sample.tables())


@pytest.fixture
def snapshot(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        yield snapshot


def test_columns_hold_every_behavior_in_the_order_of_the_base(snapshot):
    taxonomy = snapshot.taxonomy
    assert taxonomy.id.tolist() == [1, 2, 70, 71, 3, 500, 9, 90]
    columns = snapshot.user(ANNA).columns
    assert [(s.domain, s.action, s.start, s.stop) for s in columns.sections] == [(0, 0, 0, 3), (1, 1, 3, 5)]
    assert columns.node.tolist() == [2, 2, 4, 1, 3]
    assert columns.timestamp_ms.tolist() == [10, 50, 30, 20, 20]
    assert columns.item.tolist() == [70, 70, 999, 998, 71]
    assert columns.rank.tolist() == [0, 4, 3, 2, 1]
    assert columns.order.tolist() == [0, 4, 3, 2, 1]
    assert [snapshot.vocabulary.scenes[code] for code in columns.scene] == ["", "top", "top", "feed", "feed"]
    assert snapshot.user(7).columns.node.tolist() == [7, taxonomy.unmapped]


def test_unknown_user_has_an_empty_history(snapshot):
    assert snapshot.user(404).columns.num_behaviors == 0
    assert len(snapshot.user(404).history()) == 0
    assert snapshot.user(NO_ID).columns.num_behaviors == 0


def test_side_tables_names_and_words(snapshot):
    assert snapshot.vocabulary.domains == ("ads", "content")
    assert snapshot.streams == (("ads", "click"), ("content", "view"))
    assert snapshot.name_of("user", ANNA) == "anna"
    assert snapshot.name_of("user", 7) == "7"
    assert snapshot.name_of("item", 70) == "apple"
    assert snapshot.name_of("item", 71) == "71"
    assert snapshot.name_of("category", 9) == "home"
    assert snapshot.name_of("category", 101) == "baking"
    assert snapshot.name_of("category", NO_ID) == ""
    found = snapshot.items.lookup(np.array([70, 500, 1], np.uint64))
    assert found["brand"].tolist() == [parse_id("a"), 7, NO_ID]
    assert found["price"][0] == 1.5
    assert snapshot.covers.covers(np.array([500], np.uint64))[0].tolist() == [70, 71]
    users = snapshot.users.lookup(np.array([ANNA, 7], np.uint64))
    assert users["age"].tolist() == [parse_id("35-44"), NO_ID]
    assert users["size"][0] == 2.0


def test_user_ids_ascend(snapshot):
    assert list(snapshot.user_ids()) == sorted([7, ANNA])


def test_history_is_in_time_order_and_pages(snapshot):
    history = snapshot.user(ANNA).history()
    assert history.timestamp_ms.tolist() == [10, 20, 20, 30, 50]
    assert history.item.tolist() == [70, 71, 998, 999, 70]
    assert history.category.tolist() == [2, 2, 2, 3, 2]
    assert snapshot.user(ANNA).history(as_of_ms=30).item.tolist() == [70, 71, 998]
    assert snapshot.user(ANNA).history(limit=2).item.tolist() == [999, 70]
    assert snapshot.user(ANNA).history(limit=2, skip=2).item.tolist() == [71, 998]
    assert snapshot.user(ANNA).history(limit=2, skip=9).item.tolist() == []
    assert snapshot.user(ANNA).history(limit=2, skip=1, as_of_ms=50).item.tolist() == [71, 998]


def test_arrays_outlive_everything_that_gave_them(root):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        columns = snapshot.user(ANNA).columns
        part = columns.item[1:3]
    del columns, store, snapshot
    gc.collect()
    shutil.rmtree(root)
    assert part.tolist() == [70, 999]


def test_use_after_close(root):
    store = BehaviorStore.open(root)
    snapshot = store.snapshot()
    store.close()
    store.close()
    with pytest.raises(StoreClosedError, match="open it again"):
        store.snapshot()
    with pytest.raises(StoreClosedError):
        store.reload()
    with pytest.raises(StoreClosedError):
        store.history(ANNA)
    assert snapshot.user(ANNA).columns.num_behaviors == 5
    snapshot.close()
    snapshot.close()
    for use in (lambda: snapshot.user(ANNA).columns, lambda: snapshot.name_of("user", 7), lambda: snapshot.user_ids()):
        with pytest.raises(StoreClosedError, match="take another"):
            use()


def test_one_root_may_be_opened_twice(root):
    with BehaviorStore.open(root) as one, BehaviorStore.open(root) as two:
        one.close()
        assert len(two.history(ANNA)) == 5


def test_reload_follows_current_and_snapshots_stay(root, tmp_path):
    with BehaviorStore.open(root) as store:
        assert store.reload() is False
        old = store.generation
        snapshot = store.snapshot()
        held = snapshot.user(ANNA).columns
        build_store(tmp_path, **{**sample.tables(), "behaviors": [sample.event("anna", 70, 2, 99)]})
        assert store.generation == old
        assert store.reload() is True
        assert store.generation != old
        assert len(store.history(ANNA)) == 1
        shutil.rmtree(root / "generations" / old)
        assert snapshot.generation == old
        assert snapshot.user(ANNA).columns.num_behaviors == held.num_behaviors == 5
        snapshot.close()


def test_a_bad_new_generation_is_refused_and_the_old_one_served(root, tmp_path):
    with BehaviorStore.open(root) as store:
        old = store.generation
        build_store(tmp_path, **sample.tables())
        data = open_generation(root, "store").path / "base" / "data.mdb"
        data.write_bytes(data.read_bytes()[:-4096])
        with pytest.raises(CorruptGenerationError, match=r"data\.mdb: .*lookback-store ingest"):
            store.reload()
        assert store.generation == old
        assert len(store.history(ANNA)) == 5


def test_opening_nothing_or_damage_says_what_to_run(root, tmp_path):
    with pytest.raises(MissingGenerationError, match="lookback-store ingest"):
        BehaviorStore.open(tmp_path / "nowhere")
    path = open_generation(root, "store").path
    (path / "taxonomy" / "end.npy").unlink()
    with pytest.raises(MissingGenerationError, match=r"end\.npy"):
        BehaviorStore.open(root)


def test_a_generation_of_another_content_is_refused(tmp_path):
    with GenerationWriter(tmp_path, kind="store") as writer:
        writer.meta["store_format"] = 3
        writer.publish()
    with pytest.raises(CorruptGenerationError, match="store format 3, this program reads 2"):
        BehaviorStore.open(tmp_path)


def test_a_base_that_was_never_hashed_is_refused(root, tmp_path):
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        with GenerationWriter(root, kind="store") as writer:
            snapshot.taxonomy.save(writer.path / "taxonomy")
            snapshot.items.save(writer.path / "items")
            snapshot.users.save(writer.path / "users")
            snapshot.covers.save(writer.path / "covers")
            writer.meta.update(snapshot.meta.model_dump(mode="json"))
            writer.publish()
        with pytest.raises(CorruptGenerationError, match=r"data\.mdb: not listed in the manifest"):
            store.reload()


def test_a_damaged_record_names_the_user(root, tmp_path):
    folder = tmp_path / "base"
    with BaseWriter(folder) as writer:
        writer.put_block(block_of_records({5: b"LBUC" + bytes(20)}))
    with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
        snapshot._base = BaseReader(folder).begin()
        with pytest.raises(CorruptRecordError, match=r"records\.bin: user 5: a record of 24 bytes is truncated"):
            snapshot.user(5).history()


def test_a_file_that_is_no_lmdb_is_refused(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises((CorruptGenerationError, StoreIOError), match=r"data\.mdb"):
        BaseReader(tmp_path)


def test_many_threads_read_while_generations_change(root, tmp_path):
    failures = []
    stop = threading.Event()

    def read(store):
        try:
            while not stop.is_set():
                with store.snapshot() as snapshot:
                    count = snapshot.user(ANNA).columns.num_behaviors
                    assert count == snapshot.meta.num_behaviors - snapshot.user(7).columns.num_behaviors
        except Exception as exc:
            failures.append(exc)

    with BehaviorStore.open(root) as store:
        threads = [threading.Thread(target=read, args=(store,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for round_ in range(3):
            rows = [sample.event("anna", 70, 2, time) for time in range(round_ + 1)]
            build_store(tmp_path, **{**sample.tables(), "behaviors": rows})
            assert store.reload()
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
