from __future__ import annotations

import threading

import pytest

from serving.server import pool as pool_module
from serving.server.pool import Pool, afterwards


def test_what_is_left_is_done_by_the_thread_for_it_and_before_the_pool_has_ended():
    done = []

    def call():
        afterwards(lambda: done.append(threading.current_thread()))
        return threading.current_thread()

    with Pool(1) as pool:
        answered_by = pool.submit(call).result()
    assert done[0].name == "afterwards"
    assert done[0] is not answered_by


def test_a_call_that_fails_leaves_what_it_left_to_be_done():
    done = []

    def call():
        afterwards(lambda: done.append("later"))
        raise ValueError("no")

    with Pool(1) as pool, pytest.raises(ValueError, match="no"):
        pool.submit(call).result()
    assert done == ["later"]


def test_what_fails_is_logged_and_the_rest_is_done(caplog):
    done = []
    with Pool(1) as pool:
        pool.submit(lambda: (afterwards(lambda: 1 / 0), afterwards(lambda: done.append("next")))).result()
    assert done == ["next"]
    assert "ZeroDivisionError" in caplog.text


def test_a_thread_does_itself_what_is_too_much(monkeypatch):
    monkeypatch.setattr(pool_module, "MOST_LEFT", 0)
    done = []
    with Pool(1) as pool:
        thread = pool.submit(
            lambda: afterwards(lambda: done.append(threading.current_thread())) or threading.current_thread()
        ).result()
        assert done == [thread]


def test_outside_of_a_call_it_is_done_at_once():
    done = []
    afterwards(lambda: done.append("now"))
    assert done == ["now"]


def test_busy_is_what_runs_or_waits_for_a_thread():
    begun, go_on = threading.Event(), threading.Event()
    with Pool(1) as pool:
        first = pool.submit(lambda: begun.set() or go_on.wait(10))
        assert begun.wait(10)
        second = pool.submit(lambda: 1 / 0)
        assert pool.busy == 2
        go_on.set()
        assert first.result()
        with pytest.raises(ZeroDivisionError):
            second.result()
        pool.submit(int).result()  # so that the one before has left the thread
        assert pool.busy <= 1
    assert pool.busy == 0
