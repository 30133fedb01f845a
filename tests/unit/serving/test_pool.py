from __future__ import annotations

import threading

import pytest

from serving.server.pool import Pool, afterwards


def test_what_is_left_is_done_by_the_same_thread_after_the_call_itself():
    done = []

    def call():
        afterwards(lambda: done.append(("later", threading.current_thread())))
        done.append(("call", threading.current_thread()))
        return "answer"

    with Pool(1) as pool:
        assert pool.submit(call).result() == "answer"
        assert pool.submit(threading.current_thread).result() is done[0][1]
    assert [what for what, _ in done] == ["call", "later"]
    assert done[0][1] is done[1][1] is not threading.current_thread()


def test_a_call_that_fails_leaves_what_it_left_to_be_done():
    done = []

    def call():
        afterwards(lambda: done.append("later"))
        raise ValueError("no")

    with Pool(1) as pool:
        with pytest.raises(ValueError, match="no"):
            pool.submit(call).result()
        pool.submit(lambda: done.append("next")).result()
    assert done == ["later", "next"]


def test_outside_of_a_call_it_is_done_at_once():
    done = []
    afterwards(lambda: done.append("now"))
    assert done == ["now"]
