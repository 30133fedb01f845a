"""Connections that never say a word, and streams that are reset at once: a good caller stays served."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from tests.fault.searching import Callers
from tests.worlds.fault_search import make_search_world
from tests.worlds.services import server_process

HALF_OPEN = 800
CONNECTIONS, STREAMS = 4, 25
"""Of rapid resets: so many streams are opened and reset on so many connections, again and again."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = b"/lookback.search.v1.SearchService/Search"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers():
    """A request's headers without a dynamic table: every stream may send the same bytes."""

    def literal(name, value):
        return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value

    pairs = ((b":path", PATH), (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers"))
    return b"\x83\x86" + b"".join(literal(name, value) for name, value in pairs)


BLOCK = headers()
CANCEL = struct.pack(">I", 8)


@contextmanager
def half_open(address, ended):
    """Holds many connections that send nothing; those that the server drops are opened again."""
    host, _, port = address.rpartition(":")
    held: list[socket.socket] = []

    def hold():
        while not ended.is_set():
            alive = []
            for each in held:
                with suppress(BlockingIOError):
                    if not each.recv(1, socket.MSG_PEEK):
                        each.close()
                        continue
                alive.append(each)
            held[:] = alive
            while len(held) < HALF_OPEN and not ended.is_set():
                each = socket.create_connection((host, int(port)), 10)
                each.setblocking(False)
                held.append(each)
            time.sleep(0.1)

    with in_threads(hold):
        while len(held) < HALF_OPEN:
            time.sleep(0.01)
        yield
        ended.set()
    for each in held:
        each.close()


@contextmanager
def rapid_resets(address, ended):
    """Opens streams and resets them in the same breath, 500 a second."""
    host, _, port = address.rpartition(":")

    def reset():
        while not ended.is_set():
            with suppress(OSError), socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(PREFACE + frame(4, 0, 0, b""))
                connection.setblocking(True)
                connection.settimeout(0.05)
                stream = 1
                while not ended.is_set() and stream < 1 << 20:
                    burst = b""
                    for _ in range(STREAMS):
                        burst += frame(1, 4, stream, BLOCK) + frame(3, 0, stream, CANCEL)
                        stream += 2
                    connection.sendall(burst)
                    with suppress(TimeoutError):
                        if not connection.recv(1 << 16):
                            break
                    time.sleep(0.2)

    with in_threads(*[reset] * CONNECTIONS):
        yield
        ended.set()


@contextmanager
def in_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(30)


@pytest.mark.parametrize("attack", [half_open, rapid_resets], ids=["half open", "rapid resets"])
def test_a_good_caller_stays_served(attack, folder, scale, rng, seed, tally):
    world = make_search_world(folder, rng, tags=1)
    calm, attacked = [], []
    with (
        server_process(folder, "search_stage", "--store", world.store, "--index", world.index) as process,
        Callers(world, process.address, 1, seed, name="good") as good,
    ):
        good.wait_for(50)
        for _ in range(scale(2, 8)):  # in turn: a machine is busy at one time and not at another
            begin_s = time.monotonic()
            time.sleep(scale(1, 4))
            calm += good.took(begin_s, time.monotonic())
            with attack(process.address, threading.Event()):
                begin_s = time.monotonic()
                time.sleep(scale(1, 4))
                attacked += good.took(begin_s, time.monotonic())
            tally.injected += 1
            time.sleep(0.3)
        assert process.popen.poll() is None
    p99_ms = [1000 * float(np.percentile(times, 99)) for times in (calm, attacked)]
    tally.runs, tally.corrupt = len(calm) + len(attacked), len(good.wrong)
    tally.note = f"p99 {p99_ms[0]:.1f} ms, {p99_ms[1]:.1f} ms while attacked; {len(good.failures)} calls failed"
    assert good.failures == []
    assert p99_ms[1] < scale(10, 2) * p99_ms[0], tally.note  # the short form runs beside other tests
    tally.check()
