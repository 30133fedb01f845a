"""Retries, their budget and the circuit, with a stub and a clock that the test sets."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from serving.calling.budget import RetryBudget
from serving.calling.caller import AsyncCaller, Caller, Question
from serving.calling.circuit import FIRST_PAUSE_S, LONGEST_PAUSE_S, Circuit, CircuitState
from serving.calling.options import channel_options
from serving.calling.rules import Rules
from serving.deadline import Deadline
from serving.errors import CircuitOpenError, ClientClosedError, UnreadableAnswerError
from store.errors import DeadlineExceededError, InputError

OK = grpc.StatusCode.OK
GONE, LATE, FULL = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Failed(grpc.RpcError, grpc.Call):
    """What grpc raises."""

    def __init__(self, code, pushback=None):
        self._code, self._pushback = code, pushback

    def code(self):
        return self._code

    def trailing_metadata(self):
        return () if self._pushback is None else (("grpc-retry-pushback-ms", self._pushback),)


Failed.__abstractmethods__ = frozenset()


class Channels:
    """Answers as it is told, one outcome a call, and the last one for ever."""

    def __init__(self, *outcomes):
        self.outcomes, self.calls = list(outcomes), []

    def next(self):
        return self, ()

    def _outcome(self, timeout):
        self.calls.append(timeout)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def Ask(self, message, timeout, metadata):  # noqa: N802
        return self._outcome(timeout)


class AsyncChannels(Channels):
    async def Ask(self, message, timeout, metadata):  # noqa: N802
        return self._outcome(timeout)


class Observer:
    def __init__(self):
        self.codes, self.retries = [], []

    def called(self, code):
        self.codes.append(code)

    def retried(self, *, sent):
        self.retries.append(sent)


class Saved(RetryBudget):
    """A budget with some retries in it."""

    def __init__(self, retries=5):
        super().__init__()
        for _ in range(10 * retries):
            self.earn()


def question(read=lambda answer: answer):
    return Question("Ask", None, read)


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request):
    """Asks once over some outcomes, by either caller."""

    def run(rules, *outcomes, deadline=None, read=lambda answer: answer):
        deadline = deadline or Deadline.after(5)
        if request.param == "blocking":
            channels = Channels(*outcomes)
            return channels, lambda: Caller(channels, rules).ask(question(read), deadline)
        channels = AsyncChannels(*outcomes)
        return channels, lambda: asyncio.run(AsyncCaller(channels, rules).ask(question(read), deadline))

    return run


def test_who_finds_nobody_asks_once_more(ask):
    observer = Observer()
    channels, call = ask(Rules(budget=Saved(), observer=observer), Failed(GONE), "answer")
    assert call() == "answer"
    assert (observer.codes, observer.retries, len(channels.calls)) == ([GONE, OK], [True], 2)


def test_and_not_a_third_time(ask):
    channels, call = ask(Rules(budget=Saved()), Failed(GONE))
    with pytest.raises(grpc.RpcError):
        call()
    assert len(channels.calls) == 2


def test_who_is_told_when_to_come_again_does_if_there_is_time(ask):
    channels, call = ask(Rules(budget=Saved()), Failed(FULL, "30"), "answer")
    assert call() == "answer"
    assert channels.calls[0] - channels.calls[1] >= 0.03


@pytest.mark.parametrize(
    ("error", "deadline_s"), [(Failed(LATE), 5), (Failed(FULL), 5), (Failed(FULL, "200"), 0.3), (Failed(FULL, "-1"), 5)]
)
def test_other_failures_are_final(ask, error, deadline_s):
    channels, call = ask(Rules(budget=Saved()), error, "answer", deadline=Deadline.after(deadline_s))
    with pytest.raises(grpc.RpcError):
        call()
    assert len(channels.calls) == 1


def test_a_spent_deadline_is_not_asked_with(ask):
    channels, call = ask(Rules(budget=Saved()), "answer", deadline=Deadline.after(-1))
    with pytest.raises(DeadlineExceededError):
        call()
    assert channels.calls == []


def test_an_answer_that_cannot_be_read_is_one_and_a_closed_client_says_so(ask):
    def read(answer):
        raise InputError("field: odd")

    _, call = ask(Rules(budget=Saved()), "answer", read=read)
    with pytest.raises(UnreadableAnswerError, match="field: odd"):
        call()
    for error in (ValueError("Cannot invoke RPC on closed channel!"), grpc.aio.UsageError("Channel is closed.")):
        _, call = ask(Rules(budget=Saved()), error)
        with pytest.raises(ClientClosedError):
            call()


def test_all_tries_are_at_most_a_tenth_more_than_the_calls():
    channels = Channels(Failed(GONE))
    caller = Caller(channels, Rules(budget=RetryBudget()))
    for number in range(1, 501):
        with pytest.raises(grpc.RpcError):
            caller.ask(question(), Deadline.after(5))
        assert len(channels.calls) <= 1.1 * number
    assert len(channels.calls) == 550


def test_a_good_time_saves_a_few_retries_and_not_all():
    budget = Saved(retries=1000)
    assert sum(budget.spend() for _ in range(1000)) == 10


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def opened():
    circuit = Circuit(clock := Clock())
    for _ in range(4):
        circuit.enter()
        circuit.failed()
    return circuit, clock


def test_four_calls_without_an_answer_open_the_circuit():
    circuit, _ = opened()
    assert circuit.state is CircuitState.OPEN
    with pytest.raises(CircuitOpenError):
        circuit.enter()


def test_one_probe_goes_out_after_a_pause_and_an_answer_closes_the_circuit():
    circuit, clock = opened()
    clock.now_s += FIRST_PAUSE_S
    circuit.enter()
    assert circuit.state is CircuitState.HALF_OPEN
    with pytest.raises(CircuitOpenError):
        circuit.enter()
    circuit.answered()
    assert circuit.state is CircuitState.CLOSED
    for _ in range(3):
        circuit.enter()
        circuit.failed()
    assert circuit.state is CircuitState.CLOSED


def test_pauses_grow_to_a_second_and_no_more():
    circuit, clock = opened()
    pauses = []
    for _ in range(8):
        started_s = clock.now_s
        while circuit.state is CircuitState.OPEN:
            clock.now_s += 0.01
            try:
                circuit.enter()
            except CircuitOpenError:
                continue
        pauses.append(clock.now_s - started_s)
        circuit.failed()
    assert [round(each, 6) for each in pauses] == sorted(round(each, 6) for each in pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S, abs=0.02)


def test_a_probe_that_is_given_up_leaves_the_way_free_for_another():
    circuit, clock = opened()
    clock.now_s += FIRST_PAUSE_S
    circuit.enter()
    circuit.given_up()
    clock.now_s += LONGEST_PAUSE_S
    circuit.enter()
    assert circuit.state is CircuitState.HALF_OPEN


def test_calls_that_were_given_too_little_time_say_nothing():
    circuit = Circuit()
    for _ in range(50):
        circuit.answered(0.1)
    for _ in range(50):
        circuit.failed(given_s=0.2)
    assert circuit.state is CircuitState.CLOSED
    for _ in range(4):
        circuit.failed(given_s=0.5)
    assert circuit.state is CircuitState.OPEN


@pytest.mark.parametrize(("share", "opens"), [(0.1, False), (0.9, True)])
def test_few_failures_among_answers_leave_it_closed(share, opens):
    circuit, rng, states = Circuit(), random.Random(1), set()
    for _ in range(200):
        (circuit.failed if rng.random() < share else circuit.answered)()
        states.add(circuit.state)
    assert (CircuitState.OPEN in states) is opens


def test_a_refusal_is_an_answer(ask):
    circuit = Circuit()
    for _ in range(20):
        _, call = ask(Rules(budget=RetryBudget(), circuit=circuit), Failed(FULL))
        with pytest.raises(grpc.RpcError):
            call()
    assert circuit.state is CircuitState.CLOSED


def test_an_open_circuit_makes_no_call(ask):
    circuit, _ = opened()
    channels, call = ask(Rules(budget=Saved(), circuit=circuit), "answer")
    with pytest.raises(CircuitOpenError):
        call()
    assert channels.calls == []


@pytest.mark.parametrize(
    ("address", "proxy"),
    [("127.0.0.1:1", 0), ("localhost:1", 0), ("[::1]:1", 0), ("unix:/x", 0), ("10.0.0.1:1", 1), ("search:50051", 1)],
)
def test_no_proxy_stands_before_this_machine(address, proxy):
    assert dict(channel_options(address))["grpc.enable_http_proxy"] == proxy
