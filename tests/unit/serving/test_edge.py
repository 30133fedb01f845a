"""The edge without a network: one call at a time, by a context that the test makes."""

from __future__ import annotations

import io
import json
import threading
import time
from types import SimpleNamespace

import grpc
import pytest
from prometheus_client import Counter

from serving import Admission, ServerMetrics, Service, StatusTable, current_call, lap, make_logger, takes_up_to
from serving.call import LONGEST_DEADLINE_S
from serving.deadline import Deadline
from serving.security.gate import Gate
from serving.server.edge import Edge
from serving.server.pool import Pool
from store.errors import InputError

METHOD = "/test.Service/Do"
LONG = Deadline.after(86_400)


class AbortedError(Exception):
    """What grpc raises in a handler that aborts."""


class Context:
    """What the edge asks of a call."""

    def __init__(self, remaining_s):
        self.remaining_s = remaining_s
        self.code = None

    def time_remaining(self):
        return self.remaining_s

    def is_active(self):
        return True

    def peer(self):
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self):
        return ()

    def set_trailing_metadata(self, metadata):
        pass

    def abort(self, code, details):
        self.code = code
        raise AbortedError(details)


class Served:
    """A method that notes what reaches it, behind an edge."""

    def __init__(self, admission=None, slow_s=0.0, **service):
        self.read, self.calls, self.in_flight = [], [], []
        handler = grpc.unary_unary_rpc_method_handler(self._do, self._read, lambda answer: answer)
        self.admission = admission or Admission(max_running=1, max_waiting=1)
        self.metrics, self.log = ServerMetrics(), io.StringIO()
        edge = Edge(
            (Service(name="test.Service", add=lambda server: None, **service),),
            StatusTable(),
            Gate(None, Counter("refused", "", ("reason",), registry=None)),
            self.admission,
            self.metrics,
            make_logger("test", self.log),
            slow_s=slow_s,
        )
        self._call = edge.intercept_service(lambda details: handler, SimpleNamespace(method=METHOD)).unary_unary

    def ask(self, data=b"", remaining_s=None):
        """Gives the answer, or the status of the refusal."""
        context = Context(remaining_s)
        try:
            return self._call(data, context)
        except AbortedError:
            return context.code

    def metric(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)

    def _read(self, data):
        self.read.append(data)
        return data

    @takes_up_to(7)
    def _do(self, message, context):
        self.calls.append(current_call())
        lap("work")
        if message == b"bad":
            time.sleep(0.02)
            raise InputError("message: is bad")
        self.in_flight.append(self.metric("lookback_requests_in_flight"))
        return b"done"


def test_a_request_whose_time_is_spent_is_not_even_read():
    served = Served()
    assert served.ask(remaining_s=0.0) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.read == []
    assert served.ask() == b"done"


def test_a_message_beyond_its_methods_bound_is_not_read():
    served = Served()
    assert served.ask(b"12345678") is grpc.StatusCode.INVALID_ARGUMENT
    assert served.read == []
    assert served.ask(b"1234567") == b"done"


@pytest.mark.parametrize(
    ("given_s", "limit_s"), [(7.0, 7.0), (86_400.0, LONGEST_DEADLINE_S), (None, LONGEST_DEADLINE_S)]
)
def test_the_callers_deadline_holds_up_to_the_servers_own(given_s, limit_s):
    served, earliest = Served(), Deadline.after(limit_s)
    assert served.ask(remaining_s=given_s) == b"done"
    assert earliest.at_s <= served.calls[0].deadline.at_s <= Deadline.after(limit_s).at_s


def test_a_request_that_waits_for_its_turn_is_not_read_before():
    served = Served()
    outcome = []
    with served.admission.enter(LONG):
        waiter = threading.Thread(target=lambda: outcome.append(served.ask(b"message")))
        waiter.start()
        while served.admission.inside < 2:
            time.sleep(0.001)
        assert served.read == []
    waiter.join()
    assert (served.read, outcome) == ([b"message"], [b"done"])


def test_a_request_is_counted_before_its_answer_leaves_and_logged_after():
    served = Served()

    def answer():
        given = served.ask(b"message")
        return (
            given,
            served.metric("lookback_requests_total", method=METHOD, code="OK", experiment=""),
            served.log.getvalue(),
        )

    with Pool(1) as pool:
        assert pool.submit(answer).result() == (b"done", 1.0, "")
    (line,) = map(json.loads, served.log.getvalue().splitlines())
    assert (line["event"], line["code"], line["request_id"]) == ("request", "OK", served.calls[0].request_id)


def test_a_refusal_is_counted_and_logged_too():
    served = Served()
    assert served.ask(bytes(8)) is grpc.StatusCode.INVALID_ARGUMENT
    assert served.metric("lookback_requests_total", method=METHOD, code="INVALID_ARGUMENT", experiment="") == 1.0
    assert served.metric("lookback_requests_total", method=METHOD, code="OK", experiment="") == 0.0
    assert served.metric("lookback_request_duration_seconds_count", method=METHOD) == 1.0
    assert json.loads(served.log.getvalue())["code"] == "INVALID_ARGUMENT"


def test_requests_that_run_are_in_flight():
    served = Served()
    served.ask()
    assert served.in_flight == [1.0]
    assert served.metric("lookback_requests_in_flight") == 0.0


def stages_of(served):
    (line,) = map(json.loads, served.log.getvalue().splitlines())
    return line


def test_only_a_slow_request_keeps_its_stages_in_its_line():
    served = Served(slow_s=60.0)
    served.ask()
    line = stages_of(served)
    assert (line["level"], line.get("stages_ms")) == ("info", None)
    assert served.metric("lookback_slow_requests_total", method=METHOD) is None
    served = Served(slow_s=1e-9)
    served.ask()
    line = stages_of(served)
    assert (line["event"], line["level"], line["slow"]) == ("request", "warning", True)
    assert list(line["stages_ms"]) == ["work", "respond"]
    assert sum(line["stages_ms"].values()) + line["waited_ms"] <= line["duration_ms"] + 0.01
    assert served.metric("lookback_slow_requests_total", method=METHOD) == 1


def test_the_stage_that_failed_has_its_time():
    served = Served(slow_s=0.01)
    assert served.ask(b"bad") is grpc.StatusCode.INVALID_ARGUMENT
    assert stages_of(served)["stages_ms"]["unfinished"] >= 20
    assert served.metric("lookback_stage_duration_seconds_sum", method=METHOD, stage="unfinished") >= 0.02


def test_the_wait_for_a_turn_is_measured_apart():
    served = Served(slow_s=1e-9)
    with served.admission.enter(LONG):
        waiter = threading.Thread(target=served.ask)
        waiter.start()
        while served.admission.inside < 2:
            time.sleep(0.001)
        time.sleep(0.05)
    waiter.join()
    assert served.metric("lookback_queue_wait_seconds_sum", method=METHOD) >= 0.05
    line = stages_of(served)
    assert line["waited_ms"] >= 50 > sum(line["stages_ms"].values())


def test_refusals_are_counted_by_reason():
    served = Served(admission=Admission(max_running=1, max_waiting=0))
    with served.admission.enter(LONG):
        assert served.ask(remaining_s=10.0) is grpc.StatusCode.RESOURCE_EXHAUSTED
    served.admission.close()
    assert served.ask() is grpc.StatusCode.UNAVAILABLE
    counted = {
        reason: served.metric("lookback_requests_refused_total", method=METHOD, reason=reason)
        for reason in ("queue_full", "draining", "deadline")
    }
    assert counted == {"queue_full": 1, "draining": 1, "deadline": None}
