import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from store.delta.batch import AppendResult
from store.delta.group_commit import Appender
from store.delta.writer import DeltaWriter
from store.errors import MapFullError, StoreClosedError, StoreError
from tests.worlds.appends import NOW_MS, EmptyBase, batch, event


class Log:
    """Commits that wait until they are let through, so that others gather behind them."""

    def __init__(self):
        self.commits = []
        self.offsets = []
        self.let_through = threading.Event()
        self.begun = threading.Event()
        self.error = None

    def __call__(self, batches, offsets):
        self.begun.set()
        assert self.let_through.wait(10)
        if self.error is not None:
            raise self.error
        self.commits.append([len(each) for each in batches])
        self.offsets.append(dict(offsets))
        return [AppendResult(result=np.ones(len(each), np.uint8), reasons={}, sequence=0) for each in batches]


def rows(count):
    return batch(*[event(item=at) for at in range(count)])


def gather(appender, log, sizes):
    """Starts one append, and behind it one per size; gives the futures."""
    pool = ThreadPoolExecutor(len(sizes) + 1)
    futures = [pool.submit(appender.append, rows(1))]
    assert log.begun.wait(10)
    for count, size in enumerate(sizes):
        futures.append(pool.submit(appender.append, rows(size), {f"s{size}": b"1"}))
        while len(appender._waiting) <= count:
            time.sleep(0.001)
    pool.shutdown(wait=False)
    return futures


def test_what_waits_is_committed_together():
    log = Log()
    appender = Appender(log, max_rows=10)
    futures = gather(appender, log, [4, 5, 2, 30, 1])
    log.let_through.set()
    assert [len(future.result(10).result) for future in futures] == [1, 4, 5, 2, 30, 1]
    assert log.commits == [[1], [4, 5], [2], [30], [1]]
    assert log.offsets[1] == {"s4": b"1", "s5": b"1"}


def test_an_error_goes_to_the_callers_of_its_commit_and_to_no_others():
    log = Log()
    appender = Appender(log, max_rows=10)
    log.error = MapFullError("full")
    futures = gather(appender, log, [4, 5])
    log.let_through.set()
    errors = [future.exception(10) for future in futures]
    assert [type(error) for error in errors] == [MapFullError] * 3
    assert len({id(error) for error in errors}) == 3
    log.error = None
    assert appender.append(rows(2)).num_accepted == 2
    log.error = KeyError("odd")
    with pytest.raises(StoreError, match="odd"):
        appender.append(rows(2))


def test_an_interrupt_ends_its_thread_and_fails_the_others():
    log = Log()
    appender = Appender(log)
    log.error = KeyboardInterrupt()
    log.let_through.set()
    with pytest.raises(KeyboardInterrupt):
        appender.append(rows(1))
    log.error = None
    assert appender.append(rows(1)).num_accepted == 1


def test_closing_commits_what_waits_and_takes_no_more():
    log = Log()
    appender = Appender(log)
    futures = gather(appender, log, [4, 5])
    closing = threading.Thread(target=appender.close)
    closing.start()
    log.let_through.set()
    closing.join(10)
    assert [len(future.result(10).result) for future in futures] == [1, 4, 5]
    appender.close()
    with pytest.raises(StoreClosedError):
        appender.append(rows(1))


def test_many_threads_on_one_delta(tmp_path):
    base = EmptyBase()
    with DeltaWriter(tmp_path, now_ms=lambda: NOW_MS) as writer:
        commits = []

        def commit(batches, offsets):
            commits.append(len(batches))
            return writer.append(batches, base, offsets)

        with Appender(commit) as appender, ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda at: appender.append(batch(event(at % 7, at), event(9, 9))), range(200)))
        with writer.delta.begin() as transaction:
            assert sorted(len(part) for _, part in transaction.scan()) == [1, *[28] * 3, *[29] * 4]
            assert transaction.last_sequence == 201
        assert sum(result.num_accepted for result in results) == 201
        assert sum(result.num_duplicates for result in results) == 199
        assert sum(commits) == 200
