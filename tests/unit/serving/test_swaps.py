from __future__ import annotations

import io
import json
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from serving import Swaps, WorkerSlot, make_logger
from serving.slot import read_served
from store.errors import CorruptGenerationError


class Part:
    """Serves a name; reads the next one from `current`, and refuses those that begin with "bad"."""

    def __init__(self):
        self.name = self.current = "one"
        self.opened = []

    def published(self):
        if self.current is None:
            raise CorruptGenerationError("CURRENT: names nothing")
        return {"kind": self.current}

    def served(self):
        return {"kind": self.name}

    def reload(self):
        self.opened.append(self.current)
        if self.current is None or self.current.startswith("bad"):
            raise CorruptGenerationError(f"{self.current}: is damaged")
        self.name = self.current


class Fixture:
    def __init__(self, **more):
        self.part, self.registry, self.log = Part(), CollectorRegistry(), io.StringIO()
        self.swaps = Swaps(self.part, self.registry, make_logger("test", self.log), **more)

    def metric(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def events(self):
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


def test_something_new_is_served_and_told():
    it = Fixture()
    it.swaps.check()
    assert it.part.opened == []
    it.part.current = "two"
    it.swaps.check()
    assert it.part.name == "two"
    assert it.metric("lookback_swaps_total", result="swapped") == 1
    assert it.metric("lookback_serving_info", kind="two") == 1
    assert it.metric("lookback_serving_info", kind="one") is None
    assert it.events() == ["swapped"]


def test_the_age_of_what_is_served_is_told_by_its_name():
    it = Fixture()
    assert it.metric("lookback_generation_age_seconds", artifact="kind") is None
    hour_ago = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() - 3600))
    it.part.current = f"{hour_ago}-0123abcd"
    it.swaps.check()
    assert it.metric("lookback_generation_age_seconds", artifact="kind") == pytest.approx(3600, abs=5)


@pytest.mark.parametrize("bad", ["bad", None])
def test_what_is_refused_is_opened_once_until_something_else_is_published(bad):
    it = Fixture()
    it.part.current = bad
    for _ in range(3):
        it.swaps.check()
    assert it.part.opened == [bad]
    assert it.part.name == "one"
    assert it.metric("lookback_swaps_total", result="refused") == 1
    assert it.metric("lookback_behind") == 1
    with pytest.raises(CorruptGenerationError):  # an operator's wish is obeyed
        it.swaps.reload()
    assert it.metric("lookback_swaps_total", result="refused") == 2
    it.part.current = "two"
    it.swaps.check()
    assert it.part.name == "two"
    assert it.metric("lookback_behind") == 0


def test_going_back_to_what_is_served_ends_being_behind():
    it = Fixture()
    it.part.current = "bad"
    it.swaps.check()
    it.part.current = "one"
    it.swaps.check()
    assert it.metric("lookback_behind") == 0
    it.part.current = "bad"
    it.swaps.check()
    assert it.part.opened == ["bad", "bad"]


def test_what_comes_afterwards_is_done_after_every_reload_but_a_refused_one():
    done = []
    it = Fixture(on_reload=lambda: done.append(it.part.name))
    it.swaps.reload()
    it.part.current = "bad"
    it.swaps.check()
    it.part.current = "two"
    it.swaps.check()
    assert done == ["one", "two"]


def test_an_error_afterwards_reaches_the_operator_and_not_the_timer():
    def fail():
        raise OSError("disk")

    it = Fixture(on_reload=fail)
    with pytest.raises(OSError, match="disk"):
        it.swaps.reload()
    it.part.current = "two"
    it.swaps.check()
    assert it.events() == ["swapped", "reload failed"]
    assert it.metric("lookback_behind") == 0


def test_a_timer_looks_until_the_block_ends():
    it = Fixture()
    swapped = threading.Event()
    inner = it.part.reload
    it.part.reload = lambda: (inner(), swapped.set())
    with it.swaps.watching(0.01):
        it.part.current = "two"
        assert swapped.wait(30)
    it.part.current = "three"
    assert not any(thread.name == "watch" for thread in threading.enumerate())
    assert it.part.name == "two"


def test_workers_take_turns_and_note_what_they_serve(tmp_path):
    slots = [WorkerSlot(number=number, count=2, folder=tmp_path) for number in (1, 2)]
    assert read_served(slots[0]) == {}
    first, second = (Fixture(slot=slot) for slot in slots)
    entered, leave, overlaps = threading.Event(), threading.Event(), []

    def slow():
        entered.set()
        assert leave.wait(30)
        first.part.name = "two"

    first.part.reload = slow
    second.part.reload = lambda: overlaps.append(first.part.name)
    one = threading.Thread(target=first.swaps.reload)
    one.start()
    assert entered.wait(30)
    two = threading.Thread(target=second.swaps.reload)
    two.start()
    two.join(0.1)
    assert overlaps == []
    leave.set()
    one.join(30)
    two.join(30)
    assert overlaps == ["two"]
    assert read_served(slots[1]) == {"kind": "two"}
