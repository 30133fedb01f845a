"""More is asked than a server can do: what it can do it does, the rest is refused at once, and it recovers."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial

import grpc
import numpy as np

from protos.lookback.search.v1 import search_pb2 as pb
from protos.lookback.search.v1 import search_pb2_grpc
from serving import Priority, ServeOptions, Server, ServerMetrics, Service, StatusTable, make_logger
from serving.server.caller import CALLER

WORK_S = 0.1
PLACES = 4
CAPACITY = PLACES / WORK_S
"""A second. The work sleeps: how much the machine has to do besides hardly matters."""
DEADLINE_S = 0.5
OK, FULL, LATE = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED


class Sleeping(search_pb2_grpc.SearchServiceServicer):
    """Every call takes as long."""

    def Search(self, request, context):  # noqa: N802
        time.sleep(WORK_S)
        return pb.SearchResponse()

    def GetHistory(self, request, context):  # noqa: N802
        time.sleep(WORK_S)
        return pb.GetHistoryResponse()


@contextmanager
def serving():
    service = Service(
        name="lookback.search.v1.SearchService",
        add=partial(search_pb2_grpc.add_SearchServiceServicer_to_server, Sleeping()),
        priorities={"GetHistory": Priority.READ},
    )
    options, log = ServeOptions(max_running=PLACES), make_logger("test", io.StringIO())
    with Server((service,), options, StatusTable(), ServerMetrics(), log) as server:
        yield f"127.0.0.1:{server.port}"


class Stream:
    """Requests of one caller at even gaps, whatever becomes of them."""

    def __init__(self, rate, seconds, *, caller="a", method="Search", start_s=0.0):
        self.rate, self.seconds, self.caller, self.method, self.start_s = rate, seconds, caller, method, start_s
        self.outcomes = []
        """(when it was due, how long it took, status, hint)"""

    async def send(self, stub, begin_s):
        calls = []
        for number in range(int(self.rate * self.seconds)):
            due_s = begin_s + self.start_s + number / self.rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            calls.append(asyncio.ensure_future(self._ask(stub, due_s - begin_s)))
        await asyncio.gather(*calls)

    async def _ask(self, stub, due_s):
        message = pb.SearchRequest() if self.method == "Search" else pb.GetHistoryRequest()
        started_s, hint = time.monotonic(), None
        try:
            await getattr(stub, self.method)(message, timeout=DEADLINE_S, metadata=((CALLER, self.caller),))
            code = OK
        except grpc.aio.AioRpcError as error:
            code, hint = error.code(), dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
        self.outcomes.append((due_s, time.monotonic() - started_s, code, hint))

    def goodput(self, since_s=0.0, until_s=1e9):
        return sum(code is OK for due_s, _, code, _ in self.outcomes if since_s <= due_s < until_s)


def send(address, *streams):
    async def run():
        async with grpc.aio.insecure_channel(address) as channel:
            stub, begin_s = search_pb2_grpc.SearchServiceStub(channel), time.monotonic() + 0.1
            await asyncio.gather(*(stream.send(stub, begin_s) for stream in streams))

    asyncio.run(run())


def test_three_times_the_load_is_met_with_answers_and_quick_refusals(scale, tally):
    seconds = scale(3, 20)
    with serving() as address:
        send(address, Stream(CAPACITY / 2, 1))  # learns what a request takes
        peak = Stream(0.9 * CAPACITY, seconds)
        send(address, peak)
        much = Stream(3 * CAPACITY, seconds)
        after = Stream(CAPACITY / 2, 5.0, start_s=seconds)
        send(address, much, after)
    kinds = Counter(code for _, _, code, _ in much.outcomes)
    share = much.goodput() / peak.goodput()
    refused = [took_s for _, took_s, code, _ in much.outcomes if code is FULL]
    p99_ms = 1000 * float(np.percentile(refused, 99))
    tally.runs, tally.injected = len(much.outcomes), len(refused)
    tally.note = f"goodput {100 * share:.0f} % of that at 0.9 times the capacity; refusals p99 {p99_ms:.0f} ms"
    assert set(kinds) <= {OK, FULL, LATE}, kinds
    # Beside other tests, as the short form runs, both ends of a call stand still for many of these milliseconds.
    assert share >= scale(5, 8) / 10, (tally.note, kinds)
    assert p99_ms < scale(500, 50), tally.note
    assert all(hint is not None and int(hint) > 0 for _, _, code, hint in much.outcomes if code is FULL)
    assert after.goodput(seconds + 1, seconds + 5) >= scale(70, 95) / 100 * 4 * CAPACITY / 2
    tally.check()


def test_a_caller_that_asks_too_much_does_not_take_what_another_one_needs(scale, tally):
    seconds = scale(3, 20)
    with serving() as address:
        send(address, Stream(CAPACITY / 2, 1))
        greedy, modest = Stream(3 * CAPACITY, seconds, caller="greedy"), Stream(CAPACITY / 4, seconds, caller="modest")
        send(address, greedy, modest)
    kept = modest.goodput() / len(modest.outcomes)
    tally.runs, tally.injected = len(modest.outcomes), len(greedy.outcomes)
    tally.note = f"{100 * kept:.0f} % of the modest caller's requests answered"
    assert kept >= scale(60, 85) / 100, tally.note
    assert greedy.goodput() + modest.goodput() >= scale(5, 7) / 10 * CAPACITY * seconds
    tally.check()


def test_histories_wait_for_searches_and_not_the_other_way_round(scale, tally):
    seconds = scale(3, 20)
    with serving() as address:
        send(address, Stream(CAPACITY / 2, 1), Stream(CAPACITY / 4, 1, method="GetHistory"))
        search = Stream(0.7 * CAPACITY, seconds)
        history = Stream(2 * CAPACITY, seconds, method="GetHistory")
        send(address, search, history)
    kept = search.goodput() / len(search.outcomes)
    tally.runs, tally.injected = len(search.outcomes), len(history.outcomes)
    tally.note = f"{100 * kept:.0f} % of searches answered beside twice the capacity of histories"
    assert kept >= scale(60, 85) / 100, tally.note
    assert history.goodput() > 0
    tally.check()
