import errno
import gc
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import lmdb
import pytest

from store.errors import (
    CorruptGenerationError,
    GenerationError,
    MapFullError,
    MissingGenerationError,
    StoreIOError,
)
from store.files import environment
from store.files.environment import DATA_FILE, copy, create, open_shared, translate


@pytest.fixture
def folder(tmp_path):
    made = create(tmp_path / "made", max_dbs=1, map_size_bytes=1 << 20)
    with made.begin(made.open_db(b"db", create=True), write=True) as transaction:
        transaction.put(b"key", b"value")
    made.sync()
    made.close()
    return tmp_path / "made"


def open_to_read(folder):
    return open_shared(folder, writable=False, max_dbs=1, lock=False)


def test_everybody_shares_one_environment(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    one, other = open_to_read(folder), open_to_read(tmp_path / "link")
    assert one is other
    assert not one.writable
    with one.begin(one.open_db(b"db")) as transaction:
        assert transaction.get(b"key") == b"value"


def test_an_environment_closes_when_nobody_holds_it(folder):
    held = open_to_read(folder)
    with pytest.raises(lmdb.Error, match="already open"):
        lmdb.open(str(folder), readonly=True, lock=False)
    del held
    gc.collect()
    lmdb.open(str(folder), readonly=True, lock=False).close()


def test_dropping_and_opening_at_once_never_meets_an_open_one(folder):
    """Threads that drop the last reference race with threads that want a new one."""
    failures = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            try:
                held = open_to_read(folder)
                with held.begin(held.open_db(b"db")) as transaction:
                    assert transaction.get(b"key") == b"value"
                del held
            except Exception as exc:
                failures.append(exc)
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        stop.wait(1.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert failures == []
    lmdb.open(str(folder), readonly=True, lock=False).close()


def test_a_finalizer_that_finds_the_lock_taken_leaves_the_closing_to_its_holder(folder):
    registry = environment._registry
    held = open_to_read(folder)
    with registry._lock:
        del held  # as when a garbage collection runs inside `open_shared`
        assert len(registry._dropped) == 1
    again = open_to_read(folder)  # it is still open, and taken up again
    assert not registry._dropped
    with again.begin(again.open_db(b"db")) as transaction:
        assert transaction.get(b"key") == b"value"


def test_a_folder_that_was_made_again_is_another_environment(folder):
    old = open_to_read(folder)
    shutil.rmtree(folder)
    with pytest.raises(MissingGenerationError, match=r"data.mdb: is not there"):
        open_to_read(folder)
    made = create(folder, max_dbs=1, map_size_bytes=1 << 20)
    with made.begin(made.open_db(b"db", create=True), write=True) as transaction:
        transaction.put(b"key", b"other")
    made.sync()
    made.close()
    new = open_to_read(folder)
    assert new is not old
    for one, value in ((old, b"value"), (new, b"other")):
        with one.begin(one.open_db(b"db")) as transaction:
            assert transaction.get(b"key") == value


def test_a_child_process_opens_its_own(folder):
    script = f"""
        import os
        from pathlib import Path
        from store.files.environment import open_shared
        def read():
            one = open_shared(Path({str(folder)!r}), writable=False, max_dbs=1, lock=False)
            with one.begin(one.open_db(b"db")) as transaction:
                assert transaction.get(b"key") == b"value"
            return one
        held = read()
        child = os.fork()
        if child == 0:
            os._exit(7 if read() is not held else 8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert read() is held
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_a_writable_one_is_made_and_shared_with_readers(tmp_path):
    writer = open_shared(tmp_path, writable=True, max_dbs=1, map_size_bytes=1 << 20, max_readers=7)
    assert writer.writable
    database = writer.open_db(b"db", create=True)
    with writer.begin(database, write=True) as transaction:
        transaction.put(b"key", b"value")
    assert open_shared(tmp_path, writable=False, max_dbs=1) is writer
    assert writer.info()["map_size"] == 1 << 20
    assert writer.info()["max_readers"] == 7
    assert writer.reader_check() == 0


def test_who_reads_cannot_become_who_writes(folder):
    held = open_to_read(folder)
    with pytest.raises(StoreIOError, match="is open read-only in this process"):
        open_shared(folder, writable=True, max_dbs=1)
    assert not held.writable


def test_a_full_map_says_so_and_keeps_what_was_committed(tmp_path):
    writer = open_shared(tmp_path, writable=True, max_dbs=1, map_size_bytes=1 << 16)
    database = writer.open_db(b"db", create=True)
    with writer.begin(database, write=True) as transaction:
        transaction.put(b"key", b"value")
    with (
        pytest.raises(MapFullError, match="the map is full"),
        translate(tmp_path),
        writer.begin(database, write=True) as transaction,
    ):
        transaction.put(b"large", bytes(1 << 17))
    with writer.begin(database) as transaction:
        assert transaction.get(b"key") == b"value"
        assert transaction.get(b"large") is None


def test_too_many_readers_say_what_to_do(tmp_path):
    held = open_shared(tmp_path, writable=True, max_dbs=1, map_size_bytes=1 << 16, max_readers=1)
    database = held.open_db(b"db", create=True)
    failures = []

    def begin():
        try:
            with translate(tmp_path), held.begin(database):
                pass
        except StoreIOError as exc:
            failures.append(str(exc))

    with held.begin(database):
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
    assert "raise max_readers" in failures[0]


def test_a_file_that_is_no_environment_is_corrupt(folder):
    (folder / DATA_FILE).write_bytes(bytes(8192))
    with pytest.raises(CorruptGenerationError, match=r"data.mdb: LMDB cannot read it"):
        open_to_read(folder)


def test_a_sub_database_that_is_not_there_is_corrupt(folder):
    with pytest.raises(CorruptGenerationError):
        open_to_read(folder).open_db(b"other")


def test_a_folder_that_is_there_is_not_made(folder):
    with pytest.raises(StoreIOError):
        create(folder, max_dbs=1, map_size_bytes=1 << 20)


def test_a_copy_is_an_environment_of_its_own(folder, tmp_path):
    held = open_to_read(folder)
    (tmp_path / "copy").mkdir()
    copy(held, tmp_path / "copy")
    copied = open_to_read(tmp_path / "copy")
    with copied.begin(copied.open_db(b"db")) as transaction:
        assert transaction.get(b"key") == b"value"
    with pytest.raises(StoreIOError):
        copy(held, tmp_path / "copy")


def test_the_advice_of_a_damaged_file_can_be_another(tmp_path):
    with (
        pytest.raises(GenerationError, match=r"data.mdb: LMDB cannot read it \(.*\); restore a backup"),
        translate(tmp_path, advice="restore a backup"),
    ):
        raise lmdb.CorruptedError("page")


def test_other_errors_pass(tmp_path):
    with pytest.raises(KeyError), translate(tmp_path):
        raise KeyError
    with pytest.raises(StoreIOError, match="No space left"), translate(tmp_path):
        raise OSError(28, os.strerror(28))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (lmdb.DiskError("write"), "free space"),
        (lmdb.MemoryError("map"), "ulimit -v"),
        (lmdb.Error(f"/delta: {os.strerror(errno.ENOMEM)}"), "ulimit -v"),
        (lmdb.Error(f"/delta: {os.strerror(errno.EMFILE)}"), "ulimit -n"),
        (lmdb.ReadonlyError("put"), "for reading only"),
        (lmdb.BadValsizeError("put"), "longer than 511 bytes"),
        (lmdb.BadRslotError("begin"), "forked"),
        (lmdb.MapResizedError("begin"), "open the store again"),
        (lmdb.LockError("open"), "local file system"),
        (lmdb.Error("something else"), "what else has the file open"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "fix the permissions"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "ulimit -f"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "the disk fails"),
    ],
)
def test_every_error_has_its_own_advice(tmp_path, error, advice):
    with pytest.raises(StoreIOError) as caught, translate(tmp_path):
        raise error
    assert advice in str(caught.value)
    others = {"free space", "fix the permissions"} - {advice}
    assert not any(other in str(caught.value) for other in others)


def test_a_limited_address_space_is_named(tmp_path):
    script = f"""
        import resource
        from pathlib import Path
        from store.errors import StoreIOError
        from store.files.environment import open_shared
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
        try:
            open_shared(Path({str(tmp_path)!r}), writable=True, max_dbs=1, map_size_bytes=64 << 30)
        except StoreIOError as exc:
            assert "ulimit -v" in str(exc), exc
        else:
            raise SystemExit("opened")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
