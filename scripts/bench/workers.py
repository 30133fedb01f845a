"""Throughput of one worker process against several, and what memory they share.

As many workers as cores: one worker is kept on one core, for its compiled kernels run beside its interpreter and
would take part of a second one. The clients, and a server that the workers ask, take what they need of all cores.
That limits what more workers can bring: with a worker's cost s and the others' cost c of a request, in CPU seconds,
and two cores, one worker gives at most 1 / s and two give at most 2 / (s + c). So requests per CPU second of the
workers stand beside requests per second: equal figures for one and for several say that workers do not stand in one
another's way.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from scripts.servers import started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = 2
CONNECTIONS = 8
"""Of each client: the kernel spreads connections over workers by chance, so there have to be some."""
_LEAD_S = 4.0
"""For clients to start and connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is asked."""

    package: str
    """`search_stage` or `model_stage`."""
    arguments: Sequence[str | Path]
    """Of its `serve`: what to serve."""
    method: str
    """Full name of the gRPC method."""
    table: Path
    """A file that every worker maps: the vectors it looks up."""
    asks: Sequence[int] = ()
    """Processes that the workers ask: what they cost counts with the clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of workers, the round with the most requests."""

    workers: int
    requests_per_s: float
    requests_per_server_cpu_s: float
    """Requests for each second of CPU that the workers spent."""
    server_cpu_ms: float
    """Of a request; so are the next two."""
    client_cpu_ms: float
    asked_cpu_ms: float
    """Of the processes that the workers ask."""
    p50_ms: float
    p99_ms: float
    smallest_share: float
    """Of the worker that worked least, of all the workers' CPU time; 1 / workers were even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of one worker, MiB; `pss` counts a page that n processes share as a part of n."""

    worker: int
    rss: float
    pss: float
    table_rss: float
    table_pss: float


def measure_workers(
    service: Service,
    requests: Sequence[bytes],
    *,
    counts: Sequence[int] = (1, 2),
    rounds: int = 3,
    seconds: float = 5.0,
) -> dict[str, object]:
    """Measures throughput and memory for several numbers of workers.

    Args:
        service: What is asked.
        requests: Serialised messages, sent one after another.
        counts: Numbers of workers, the control first.
        rounds: Measurements of each number of workers, alternating.
        seconds: Of one measurement.

    Returns:
        `rows` (see `Row`), `ratio` of requests per second of the last row to the first, `ceiling` of that ratio on this
        many cores (see above), `memory` of the workers of the last (see `Memory`), `table_mib` and `cores`.
    """
    best: dict[int, Row] = {}
    memory: list[Memory] = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(rounds):
            for count in counts:
                with _serving(Path(name), count, service) as (address, pids):
                    row = _measure(address, pids, service, requests, seconds)
                    memory = [_memory(number, pid, service.table) for number, pid in enumerate(pids, start=1)]
                if count not in best or row.requests_per_s > best[count].requests_per_s:
                    best[count] = row
    rows = [best[count] for count in counts]
    cores, one = len(os.sched_getaffinity(0)), rows[0]
    whole_ms = one.server_cpu_ms + one.client_cpu_ms + one.asked_cpu_ms
    return {
        "rows": [asdict(row) for row in rows],
        "ratio": rows[-1].requests_per_s / one.requests_per_s,
        "ceiling": min(counts[-1], cores * one.server_cpu_ms / whole_ms),
        "memory": [asdict(each) for each in memory],
        "table_mib": service.table.stat().st_size / 2**20,
        "cores": cores,
    }


@contextmanager
def _serving(folder: Path, count: int, service: Service) -> Iterator[tuple[str, list[int]]]:
    flags = ("--workers", str(count), "--watch-seconds", "0")
    with started(service.package, folder, *service.arguments, *flags) as server:
        pids = [server.pid] if count == 1 else _workers(server.log)
        _keep_on(pids, sorted(os.sched_getaffinity(0))[:count])
        yield server.address, pids


def _keep_on(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Has all threads of some processes, and those they will start, run on some cores only."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _measure(address: str, pids: Sequence[int], service: Service, requests: Sequence[bytes], seconds: float) -> Row:
    start_s = time.time() + _LEAD_S
    with ProcessPoolExecutor(CLIENTS, mp_context=get_context("spawn")) as pool:
        times = start_s, start_s + seconds
        clients = [pool.submit(_ask, address, service.method, *times, requests) for _ in range(CLIENTS)]
        _sleep_until(start_s)
        watched = [*pids, *service.asks]
        before_s = [_cpu_s(pid) for pid in watched]
        outputs = [client.result() for client in clients]
        every_s = [_cpu_s(pid) - before for pid, before in zip(watched, before_s, strict=True)]
    spent_s, asked_s = every_s[: len(pids)], every_s[len(pids) :]
    durations = np.concatenate([durations_s for durations_s, _ in outputs])
    count = len(durations)
    return Row(
        workers=len(pids),
        requests_per_s=count / seconds,
        requests_per_server_cpu_s=count / sum(spent_s),
        server_cpu_ms=1000 * sum(spent_s) / count,
        client_cpu_ms=1000 * sum(cpu_s for _, cpu_s in outputs) / count,
        asked_cpu_ms=1000 * sum(asked_s) / count,
        p50_ms=float(np.percentile(durations, 50) * 1000),
        p99_ms=float(np.percentile(durations, 99) * 1000),
        smallest_share=min(spent_s) / sum(spent_s),
    )


def _ask(
    address: str, method: str, start_s: float, end_s: float, requests: Sequence[bytes]
) -> tuple[list[float], float]:
    """Sends requests in closed loops from one time (`time.time`) to another; gives how long they took, and CPU seconds.

    Requests are sent and answers taken as bytes, so that the client itself costs as little as possible.
    """
    durations_s: list[float] = []

    def ask(first: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        with grpc.insecure_channel(address, options=options) as channel:
            call = channel.unary_unary(method)
            call(requests[first % len(requests)], timeout=60, wait_for_ready=True)
            _sleep_until(start_s)
            number = first
            while time.time() < end_s:
                started_s = time.perf_counter()
                call(requests[number % len(requests)], timeout=60)
                durations_s.append(time.perf_counter() - started_s)
                number += 1

    threads = [threading.Thread(target=ask, args=(7 * number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    _sleep_until(start_s)
    spent_s = time.process_time()
    for thread in threads:
        thread.join()
    return durations_s, time.process_time() - spent_s


def _sleep_until(time_s: float) -> None:
    time.sleep(max(0.0, time_s - time.time()))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _workers(log: Path) -> list[int]:
    """Gives the processes that a supervisor says it started as workers."""
    lines = log.read_text(encoding="utf-8").splitlines()
    events = (json.loads(line) for line in lines if line.startswith("{"))
    return [event["worker_pid"] for event in events if event["event"] == "worker started"]


def _memory(worker: int, pid: int, table: Path) -> Memory:
    """Adds up the sizes of everything that is mapped, and of what is mapped of the table."""
    sizes = dict.fromkeys(("rss", "pss", "table_rss", "table_pss"), 0.0)
    of_table = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            for key in (name.lower(), f"table_{name.lower()}") if of_table else (name.lower(),):
                sizes[key] += int(rest.split()[0]) / 1024
        elif "-" in line.split(" ", 1)[0]:
            # A head line names the file; the lines of sizes follow it.
            of_table = line.endswith(str(table.resolve()))
    return Memory(worker=worker, **sizes)
