"""The served log of one process: what is dropped is counted, and no answer waits for it."""

from __future__ import annotations

import errno
import io
import os
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from model_stage.ranking.ablation import no_history
from model_stage.ranking.ranker import Ranker
from model_stage.serving.aside import Aside, Sampler
from model_stage.serving.served_log import files, log
from model_stage.serving.served_log.files import ServedFiles
from model_stage.serving.served_log.log import ServedLog
from model_stage.serving.served_log.reader import read_requests, request_files
from model_stage.serving.served_log.record import Served
from model_stage.types import Answer, RankRequest
from serving import make_logger
from store.errors import InputError
from store.retrieval import Candidates
from tests.worlds.bundles import opened

ROWS = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Gives a served request by its number; three candidates each."""
    ranker = Ranker(opened(tmp_path_factory.mktemp("bundles")), None)

    def make(number):
        items = np.arange(number, number + ROWS, dtype=np.uint64)
        request = RankRequest(user=number, as_of_ms=1 + number, candidates=Candidates.by_id(items))
        found = no_history(request)
        result = ranker.score(request, found, "search did not answer")
        answer = Answer(result=result, found=found)
        return Served(request_id=f"r{number}", served_ms=1, request=request, answer=answer, bundle=ranker.bundle)

    return make


class Kept:
    def __init__(self, folder, **options):
        self.registry, self.stream = CollectorRegistry(), io.StringIO()
        self.log = ServedLog(folder, 1.0, self.registry, make_logger("ranking", self.stream), **options)

    def rows(self, result):
        return self.registry.get_sample_value("lookback_served_log_rows_total", {"result": result})


def ids_in(folder):
    return [logged.request_id for file in request_files(folder) for logged in read_requests(file)]


def test_what_is_offered_is_in_the_files_when_the_log_is_closed(served, tmp_path):
    kept = Kept(tmp_path / "a" / "log", worker=3)
    for number in range(70):
        kept.log.offer(served(number))
    kept.log.close()
    assert ids_in(tmp_path / "a" / "log") == [f"r{number}" for number in range(70)]
    assert (kept.rows("written"), kept.rows("dropped")) == (70 * ROWS, 0)
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "a" / "log").iterdir()) == ["impressions", "requests"]
    assert all("-w3-" in path.name for path in (tmp_path / "a" / "log").iterdir())
    kept.log.offer(served(1))  # too late, and counted
    assert kept.rows("dropped") == ROWS


def test_files_are_closed_by_size_and_by_age(served, tmp_path):
    safe = []
    by_size = ServedFiles(tmp_path, 0, safe.append, largest_bytes=1)
    by_size.write([served(1), served(2)])
    by_size.write([served(3)])
    assert safe == [2 * ROWS, ROWS]
    by_age = ServedFiles(tmp_path, 0, safe.append, longest_s=0.05)
    by_age.write([served(4)])
    assert len(safe) == 2
    time.sleep(0.06)
    by_age.close_if_due()
    assert safe[2:] == [ROWS]
    assert sorted(ids_in(tmp_path)) == ["r1", "r2", "r3", "r4"]


def test_a_full_disk_is_counted_and_after_a_pause_the_log_goes_on(served, tmp_path, monkeypatch):
    monkeypatch.setattr(log, "RETRY_S", 1.5)
    monkeypatch.setattr(log, "GROUP_S", 0.0)
    is_full, write_table = threading.Event(), pq.ParquetWriter.write_table

    def write(writer, *args, **more):
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_table(writer, *args, **more)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    kept = Kept(tmp_path)
    is_full.set()
    kept.log.offer(served(1))
    wait_for(lambda: kept.rows("dropped") == ROWS)
    kept.log.offer(served(2))  # within the pause: not even tried
    wait_for(lambda: kept.rows("dropped") == 2 * ROWS)
    assert kept.stream.getvalue().count("No space left") == 1
    assert list(tmp_path.iterdir()) == []
    is_full.clear()
    time.sleep(1.6)
    kept.log.offer(served(3))
    kept.log.close()
    assert ids_in(tmp_path) == ["r3"]
    assert (kept.rows("written"), kept.rows("dropped")) == (ROWS, 2 * ROWS)


def test_an_error_nobody_thought_of_does_not_end_the_log(served, tmp_path, monkeypatch):
    kept = Kept(tmp_path)
    broken = served(1)
    monkeypatch.setattr(files, "request_columns", lambda records: 1 / 0)
    kept.log.offer(broken)
    kept.log.close()
    assert kept.rows("dropped") == ROWS
    assert "ZeroDivisionError" in kept.stream.getvalue()


def test_what_does_not_fit_the_queue_is_turned_away_at_once(served):
    started, release, done = threading.Event(), threading.Event(), []

    def work(things, ended):
        started.set()
        release.wait(30)
        done.extend(things)

    aside = Aside("test", work, most=4, most_bytes=100)
    assert aside.offer("a", 1)
    aside.offer("b", 1)  # half full: the thread wakes
    started.wait(30)
    assert [aside.offer(thing, 30) for thing in "cdef"] == [True, True, True, False]  # 100 bytes
    assert not aside.offer("g", 101)
    release.set()
    assert aside.close()
    assert done == ["a", "b", "c", "d", "e"]
    assert not aside.offer("h", 1)


def test_a_share_is_the_same_requests_everywhere():
    ids = [f"request-{number}" for number in range(20_000)]
    taken = {name for name in ids if Sampler(0.01, 1).takes(name)}
    assert taken == {name for name in ids if Sampler(0.01, 1).takes(name)}
    assert 150 <= len(taken) <= 250
    assert taken < {name for name in ids if Sampler(0.05, 1).takes(name)}
    assert len(taken & {name for name in ids if Sampler(0.01, 2).takes(name)}) < 20
    assert all(Sampler(1.0, 1).takes(name) for name in ids)


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^served-log: .*file/log cannot be written"):
        Kept(tmp_path / "file" / "log")


def test_parts_of_killed_processes_are_removed(tmp_path):
    old, young = tmp_path / ".requests-x.part", tmp_path / ".requests-y.part"
    for part in (old, young):
        part.write_text("")
    os.utime(old, (1, 1))
    ServedFiles(tmp_path, 0, print)
    assert not old.exists()
    assert young.exists()


def wait_for(what):
    give_up_s = time.monotonic() + 30
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
