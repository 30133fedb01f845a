from __future__ import annotations

import threading
import time

import pytest

from model_stage.serving.service import RankingServicer
from search_stage.serving.service import SearchServicer
from serving import Admission, DrainingError, OverloadedError, ServeOptions
from serving.call import check_request_id
from serving.deadline import Deadline
from serving.limits import largest_bytes_of
from serving.wire.admin import AdminServicer
from store.errors import DeadlineExceededError, InputError

LONG = Deadline.after(86_400)  # from the import of this file: longer than any run of the tests


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_needs_no_permission(host):
    assert ServeOptions(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "192.168.0.4", "example.org", "", "localhost.org"])
def test_any_other_host_is_refused_until_insecure_is_spelled_out(host):
    with pytest.raises(InputError, match=r"^host: .* --insecure"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, insecure=True).host == host


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(port):
    with pytest.raises(InputError, match=r"^port: "):
        ServeOptions(port=port)
    with pytest.raises(InputError, match=r"^metrics-port: "):
        ServeOptions(metrics_port=port)


def test_an_ipv6_address_is_written_in_brackets():
    assert ServeOptions(host="::1").address(5) == "[::1]:5"
    assert ServeOptions().address(5) == "127.0.0.1:5"


def test_whoever_finds_no_place_to_run_or_wait_is_told_when_to_come_again():
    admission = Admission(max_running=1, max_waiting=0)
    with admission.enter(LONG), pytest.raises(OverloadedError) as caught, admission.enter(Deadline.after(1.0)):
        pass
    assert caught.value.retry_after_ms > 0
    with admission.enter(LONG):
        assert admission.inside == 1
    assert admission.inside == 0


def test_waiting_ends_with_the_deadline_and_gives_the_place_back():
    admission = Admission(max_running=1, max_waiting=1)
    with admission.enter(LONG):
        for _ in range(2):
            with pytest.raises(DeadlineExceededError), admission.enter(Deadline.after(0.01)):
                pass
        assert admission.inside == 1


def test_those_who_wait_get_their_turn_even_when_the_door_has_closed():
    admission = Admission(max_running=1, max_waiting=1)
    served = threading.Event()

    def wait_and_run() -> None:
        with admission.enter(LONG):
            served.set()

    with admission.enter(LONG):
        waiter = threading.Thread(target=wait_and_run)
        waiter.start()
        while admission.inside < 2:
            time.sleep(0.001)
        admission.close()
        with pytest.raises(DrainingError), admission.enter(LONG):
            pass
        with pytest.raises(DrainingError), admission.attend():
            pass
        assert not admission.wait_until_empty(0.01)
    assert admission.wait_until_empty(10)
    waiter.join()
    assert served.is_set()


def test_waiting_requests_run_in_the_order_they_came():
    admission = Admission(max_running=1, max_waiting=5)
    ran = []

    def run(number: int) -> None:
        with admission.enter(LONG):
            ran.append(number)

    threads = []
    with admission.enter(LONG):
        for number in range(5):
            threads.append(threading.Thread(target=run, args=(number,)))
            threads[-1].start()
            while admission.inside < 2 + number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert ran == [0, 1, 2, 3, 4]


def test_operators_are_counted_and_never_wait():
    admission = Admission(max_running=1, max_waiting=0)
    with admission.enter(LONG), admission.attend(), admission.attend():
        assert admission.inside == 3
    assert admission.inside == 0
    with admission.attend():
        assert not admission.wait_until_empty(0.01)
    assert admission.wait_until_empty(0.01)


def test_a_failing_request_gives_its_place_back():
    admission = Admission(max_running=1, max_waiting=0)
    with pytest.raises(ZeroDivisionError), admission.enter(LONG):
        _ = 1 // 0
    assert admission.inside == 0


@pytest.mark.parametrize("request_id", ["x" * 129, "a\nb", "\x1b[31m"])
def test_an_odd_request_id_is_refused(request_id):
    with pytest.raises(InputError, match=r"^request_id: "):
        check_request_id(request_id)


@pytest.mark.parametrize(
    ("servicer", "larger"),
    [
        (SearchServicer, {"Search": 16 * 2**20, "Append": 4 * 2**20}),
        (RankingServicer, {"Rank": 16 * 2**20, "Explain": 16 * 2**20}),
        (AdminServicer, {}),
    ],
)
def test_only_methods_that_say_so_take_more_than_a_small_request(servicer, larger):
    methods = [name for name, member in vars(servicer).items() if name[0].isupper() and callable(member)]
    assert len(methods) >= 2
    limits = {name: largest_bytes_of(getattr(servicer, name)) for name in methods}
    assert {name: limit for name, limit in limits.items() if limit != 64 * 2**10} == larger
