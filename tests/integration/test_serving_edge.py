"""The shared edge of both servers, with a real gRPC server and a handler that the test holds by the hand."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.request
import weakref
from contextlib import contextmanager
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from serving import (
    LARGEST_SMALL_MESSAGE_BYTES,
    NotOfferedError,
    ServeOptions,
    Server,
    ServerMetrics,
    Service,
    StatusTable,
    current_call,
    make_logger,
)
from serving.deadline import Deadline
from serving.server.admission import Admission
from serving.server.valve import STANDING_S
from store.errors import CorruptRecordError, InputError

NAME = "lookback.search.v1.SearchService"


class Held(search_pb2_grpc.SearchServiceServicer):
    """Search waits until it is let go; DeleteUser does what the test set."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.release = threading.Event()
        self.seen = []
        self.error = None

    def Search(self, request, context):  # noqa: N802
        self.seen.append(current_call())
        self.started.release()
        assert self.release.wait(30)
        current_call().check_time()
        return pb.SearchResponse(store_generation="held")

    def DeleteUser(self, request, context):  # noqa: N802
        self.seen.append(current_call())
        if self.error is not None:
            raise self.error
        return pb.DeleteUserResponse()


@contextmanager
def serving(waits_for_disk=frozenset(), **options):
    servicer, log = Held(), io.StringIO()
    add = partial(search_pb2_grpc.add_SearchServiceServicer_to_server, servicer)
    service = Service(name=NAME, add=add, waits_for_disk=waits_for_disk)
    metrics = ServerMetrics()
    with Server((service,), ServeOptions(**options), StatusTable(), metrics, make_logger("test", log)) as server:
        servicer.server, servicer.metrics, servicer.log = server, metrics, log
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            servicer.channel = channel
            servicer.stub = search_pb2_grpc.SearchServiceStub(channel)
            try:
                yield servicer
            finally:
                servicer.release.set()


def refused(call, code):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code, caught.value.details()
    return caught.value


def test_a_method_that_says_nothing_of_its_size_takes_small_requests_only():
    with serving() as held:
        call = held.channel.unary_unary(f"/{NAME}/DeleteUser")
        small = pb.GetHistoryRequest(page_token="x" * 65_000).SerializeToString()  # a field that the method ignores
        assert call(small, timeout=30) == b""
        large = small + bytes(LARGEST_SMALL_MESSAGE_BYTES + 1 - len(small))
        error = refused(partial(call, large, timeout=30), grpc.StatusCode.INVALID_ARGUMENT)
        assert error.details() == "DeleteUser: a request may have 65536 bytes, this one has 65537"


def log_lines(servicer):
    return [json.loads(line) for line in servicer.log.getvalue().splitlines()]


def test_a_full_server_says_so_with_a_hint_when_to_come_again():
    with serving(max_running=1, max_waiting=0) as held:
        first = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        assert held.started.acquire(timeout=10)
        error = refused(partial(held.stub.Search, pb.SearchRequest(), timeout=30), grpc.StatusCode.RESOURCE_EXHAUSTED)
        hints = dict(error.trailing_metadata())
        assert int(hints["grpc-retry-pushback-ms"]) > 0
        held.release.set()
        assert first.result().store_generation == "held"
        assert held.stub.Search(pb.SearchRequest(), timeout=30).store_generation == "held"


def test_who_finds_no_thread_is_turned_away_and_health_and_operators_are_not():
    with serving(waits_for_disk=frozenset({"Search"}), max_running=1, max_waiting=2) as held:
        held.stub.DeleteUser(pb.DeleteUserRequest(), timeout=30)
        several = [held.stub.Search.future(pb.SearchRequest(), timeout=30) for _ in range(3)]
        for _ in several:  # such a method needs no place
            assert held.started.acquire(timeout=10)
        time.sleep(2 * STANDING_S)
        for method, request in (("Search", pb.SearchRequest()), ("DeleteUser", pb.DeleteUserRequest())):
            error = refused(
                partial(getattr(held.stub, method), request, timeout=30), grpc.StatusCode.RESOURCE_EXHAUSTED
            )
            assert "server_full" in error.details()
            assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
        health = health_pb2_grpc.HealthStub(held.channel)
        assert (
            health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        )
        held.release.set()
        assert [each.result().store_generation for each in several] == ["held"] * len(several)
        held.stub.DeleteUser(pb.DeleteUserRequest(), timeout=30)
        labels = {"method": f"/{NAME}/Search", "reason": "server_full"}
        assert held.metrics.registry.get_sample_value("lookback_requests_refused_total", labels) == 1
        labels = {"method": f"/{NAME}/Search", "code": "RESOURCE_EXHAUSTED", "experiment": ""}
        assert held.metrics.registry.get_sample_value("lookback_requests_total", labels) == 1


@pytest.mark.parametrize("error", [None, InputError("user: is odd")])
def test_what_was_made_of_a_message_is_freed_before_its_place_is(error, monkeypatch):
    alive, freed, enter, delete = [], [], Admission.enter, Held.DeleteUser

    class Made:
        """Stands for what a handler makes of a message."""

    def make_and_delete(servicer, request, context):
        made = Made()
        alive.append(weakref.ref(made))
        return delete(servicer, request, context)

    @contextmanager
    def enter_and_note(admission, *asked):
        with enter(admission, *asked) as place:
            try:
                yield place
            finally:
                freed.append(alive[0]() is None)

    monkeypatch.setattr(Admission, "enter", enter_and_note)
    monkeypatch.setattr(Held, "DeleteUser", make_and_delete)
    with serving() as held:
        held.error = error
        ask = partial(held.stub.DeleteUser, pb.DeleteUserRequest(), timeout=30)
        if error is None:
            ask()
        else:
            refused(ask, grpc.StatusCode.INVALID_ARGUMENT)
    assert freed == [True]


def test_health_answers_while_the_server_is_full():
    with serving(max_running=1, max_waiting=0) as held:
        first = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        assert held.started.acquire(timeout=10)
        health = health_pb2_grpc.HealthStub(held.channel)
        for name in ("", NAME):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert not first.done()


def test_the_deadline_of_the_caller_reaches_the_handler():
    with serving() as held:
        held.release.set()
        earliest = Deadline.after(7)
        held.stub.Search(pb.SearchRequest(), timeout=7)
        # A call's time is counted from its arrival, in whole milliseconds; gRPC sends a timeout of seconds in steps of
        # ten of them, rounded up.
        assert earliest.at_s - 0.001 <= held.seen[0].deadline.at_s <= Deadline.after(7).at_s + 0.01


def test_a_request_whose_time_passed_in_the_queue_is_never_started():
    with serving(max_running=1, max_waiting=1) as held:
        first = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        assert held.started.acquire(timeout=10)
        late = partial(held.stub.Search, pb.SearchRequest(), timeout=0.1)
        refused(late, grpc.StatusCode.DEADLINE_EXCEEDED)
        held.release.set()
        first.result()
        held.stub.DeleteUser(pb.DeleteUserRequest(), timeout=30)
        assert len(held.seen) == 2  # the first Search and DeleteUser


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InputError("user: is odd"), grpc.StatusCode.INVALID_ARGUMENT, "user: is odd"),
        (NotOfferedError("later"), grpc.StatusCode.UNIMPLEMENTED, "later"),
        (CorruptRecordError("/secret/path"), grpc.StatusCode.DATA_LOSS, None),
        (ZeroDivisionError("/secret/path"), grpc.StatusCode.INTERNAL, None),
    ],
)
def test_errors_become_statuses_and_inner_text_stays_inside(error, code, told):
    with serving() as held:
        held.error = error
        raised = refused(partial(held.stub.DeleteUser, pb.DeleteUserRequest(), timeout=30), code)
        request_id = held.seen[0].request_id
        if told is not None:
            assert raised.details() == told
        else:
            assert "secret" not in raised.details()
            assert request_id in raised.details()
    failures = [line for line in log_lines(held) if line["event"] == "request failed"]
    assert [line["request_id"] for line in failures] == ([] if told else [request_id])
    assert all("/secret/path" in line["exception"] for line in failures)


def test_the_request_id_of_the_caller_stands_in_the_log():
    with serving() as held:
        held.release.set()
        held.stub.Search(pb.SearchRequest(request_id="given"), timeout=30)
        refused(
            partial(held.stub.Search, pb.SearchRequest(request_id="x" * 200), timeout=30),
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        assert held.seen[0].request_id == "given"
    requests = [line for line in log_lines(held) if line["event"] == "request"]
    assert requests[0]["request_id"] == "given"
    assert requests[0]["code"] == "OK"
    assert requests[1]["code"] == "INVALID_ARGUMENT"


def test_metrics_count_requests_by_status_and_are_served():
    with serving(metrics_port=0) as held:
        held.release.set()
        held.stub.Search(pb.SearchRequest(), timeout=30)
        held.error = InputError("user: is odd")
        refused(partial(held.stub.DeleteUser, pb.DeleteUserRequest(), timeout=30), grpc.StatusCode.INVALID_ARGUMENT)
        with urllib.request.urlopen(f"http://127.0.0.1:{held.server.metrics_port}/metrics", timeout=10) as page:
            text = page.read().decode()
    assert f'lookback_requests_total{{code="OK",experiment="",method="/{NAME}/Search"}} 1.0' in text
    assert f'lookback_requests_total{{code="INVALID_ARGUMENT",experiment="",method="/{NAME}/DeleteUser"}} 1.0' in text
    assert f'lookback_request_duration_seconds_count{{method="/{NAME}/Search"}} 1.0' in text
    assert "lookback_requests_in_flight 0.0" in text


def test_reflection_lists_the_services_only_when_it_is_on():
    with serving(reflection=True) as held:
        services = set(ProtoReflectionDescriptorDatabase(held.channel).get_services())
        assert services == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    with serving() as held:
        refused(ProtoReflectionDescriptorDatabase(held.channel).get_services, grpc.StatusCode.UNIMPLEMENTED)


def test_a_drain_finishes_what_is_in_flight_and_refuses_the_rest():
    with serving(max_running=1, max_waiting=3) as held:
        health = health_pb2_grpc.HealthStub(held.channel)
        running = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        assert held.started.acquire(timeout=10)
        waiting = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        while held.server.admission.inside < 2:
            time.sleep(0.001)

        def refusal():
            with pytest.raises(grpc.RpcError) as caught:
                held.stub.Search(pb.SearchRequest(), timeout=0.1)
            return caught.value.code()

        outcome = []
        drain = threading.Thread(target=lambda: outcome.append(held.server.drain()))
        drain.start()
        while (
            health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        ):
            time.sleep(0.001)
        late = held.stub.Search.future(pb.SearchRequest(), timeout=30)  # was on its way, as far as the server knows
        while refusal() is not grpc.StatusCode.UNAVAILABLE:
            time.sleep(0.001)
        assert not running.done()
        held.release.set()
        assert late.result().store_generation == "held"
        assert running.result().store_generation == "held"
        assert waiting.result().store_generation == "held"
        drain.join()
        assert outcome == [True]
        refused(partial(held.stub.Search, pb.SearchRequest(), timeout=30), grpc.StatusCode.UNAVAILABLE)


def test_a_request_that_outlives_the_grace_time_is_reported():
    with serving(grace_s=0.05) as held:
        first = held.stub.Search.future(pb.SearchRequest(), timeout=30)
        assert held.started.acquire(timeout=10)
        assert held.server.drain() is False
        held.release.set()
        refused(first.result, grpc.StatusCode.UNAVAILABLE)
    assert [line["finished"] for line in log_lines(held) if line["event"] == "ended"] == [False]


def test_a_port_that_is_taken_is_refused_by_name():
    with serving() as held:
        with pytest.raises(InputError, match=r"^port: "), serving(port=held.server.port):
            pass
        with pytest.raises(InputError, match=r"^metrics-port: "), serving(metrics_port=held.server.port):
            pass


def test_the_port_file_holds_the_port_while_the_server_runs(tmp_path):
    with serving(port_file=tmp_path / "port") as held:
        assert (tmp_path / "port").read_text() == f"{held.server.port}\n"
    assert list(tmp_path.iterdir()) == []
