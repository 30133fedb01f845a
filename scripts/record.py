"""Records answers of both services while live events come in, and replays them: `python -m scripts.record --work DIR`.

`DIR` is a folder of `make demo` or `scripts.pipeline`. Its store is copied first: what is appended goes to the copy.
Requests are those of the dataset's impressions, a few candidates each, over and over; after every few of them an event
is appended to the history of a user who is about to be asked for. Halfway the store is rebuilt and the servers swap.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import numpy as np
import typer

from model_stage.bundle import load_bundle
from model_stage.serving.rank_client import RankClient
from model_stage.training.impressions import load_impressions, requests_of
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from scripts.bench.machine import describe_machine
from scripts.pipeline import CONFIGS
from scripts.servers import Roots, started
from serving.deadline import Deadline
from serving.wire.columns import put_column
from store import BehaviorStore, rebuild
from store.closing import Closing
from store.command import JsonOption, command_line, run
from store.errors import InputError
from store.retrieval import Candidates
from store.terminal import bar, show_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model_stage.types import RankRequest

DEADLINE_S = 5.0
KEPT = 5
"""Store generations of the copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to record."""

    requests: int
    candidates: int
    """Of a request, at most."""
    append_every: int
    """Requests from one live event to the next."""
    callers: int


@dataclass(slots=True, kw_only=True)
class Recorded:
    """What came of the calls."""

    answered: int = 0
    degraded: int = 0
    appended: int = 0


def main(
    work: Annotated[Path, typer.Option(help="Folder with data, store, index and bundles, as `make demo` makes it.")],
    requests: Annotated[int, typer.Option(min=1, help="Requests to record.")] = 100_000,
    candidates: Annotated[int, typer.Option(min=1, max=1000, help="Candidates of a request, at most.")] = 20,
    append_every: Annotated[int, typer.Option(min=1, help="Requests from one live event to the next.")] = 10,
    callers: Annotated[int, typer.Option(min=1, help="Threads that ask.")] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Processes of the replay.")] = 2,
    config: Annotated[
        Path | None, typer.Option(help="Folder with search.yaml; default: the one named as the work folder is.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Records requests with live events between under WORK/record, and replays the log."""
    out, folder = work / "record", CONFIGS / work.name if config is None else config
    if not (folder / "schema.yaml").is_file():
        raise InputError(f"--config: {folder} has no schema.yaml; give the folder that {work} was made with")
    shutil.rmtree(out, ignore_errors=True)
    roots = Roots(store=out / "store", index=work / "index", bundle=work / "bundles", config=folder)
    copy_store(work / "store", roots.store)
    plan = Plan(requests=requests, candidates=candidates, append_every=append_every, callers=callers)
    started_s, log = time.monotonic(), out / "log"
    asked = read_requests(roots, work / "data", candidates)
    with serving(roots, out / "logs", log) as (search, ranking), bar("recording") as show:
        recorded = record(plan, asked, LiveEvents(roots.store, search), ranking, show)
    recorded_s = time.monotonic()
    status = replay(log, roots, processes, out / "replay.json")
    facts: dict[str, Any] = {
        "command": " ".join(["python -m scripts.record", *sys.argv[1:]]),
        "machine": describe_machine(out),
        **asdict(recorded),
        "recording_s": round(recorded_s - started_s, 1),
        "replay_s": round(time.monotonic() - recorded_s, 1),
        "log_bytes": sum(file.stat().st_size for file in log.iterdir()),
        "replay": json.loads((out / "replay.json").read_text(encoding="utf-8")),
    }
    shown = {name: str(facts[name]) for name in ("answered", "degraded", "appended", "recording_s", "replay_s")}
    show_report([shown], facts, json_file)
    sys.exit(status)


def replay(log: Path, roots: Roots, processes: int, json_file: Path) -> int:
    """Runs `lookback-model replay`; gives its exit status."""
    command = ["-m", "model_stage", "replay", log, "--processes", processes, "--json", json_file]
    command += ["--bundle", roots.bundle, "--store", roots.store, "--index", roots.index, "--config", roots.config]
    return subprocess.run([sys.executable, *map(str, command)], check=False).returncode


def copy_store(source: Path, target: Path) -> None:
    """Copies the root of a store; files of generations, which never change, are linked."""

    def copy(here: str, there: str) -> None:
        if "generations" in Path(here).relative_to(source).parts:
            os.link(here, there)
        else:
            shutil.copy2(here, there)

    shutil.copytree(source, target, copy_function=copy)


@contextmanager
def serving(roots: Roots, logs: Path, log: Path) -> Iterator[tuple[str, str]]:
    """Starts both services, search with `--append`, ranking with a served log of everything; gives their addresses."""
    logs.mkdir(parents=True)
    store = ("--store", roots.store, "--index", roots.index, "--config", roots.config, "--append")
    with started("search_stage", logs, *store) as search:
        keep = ("--served-log", log, "--served-share", "1")
        with started("model_stage", logs, "--bundle", roots.bundle, "--search", search.address, *keep) as ranking:
            yield search.address, ranking.address


def record(
    plan: Plan, asked: Sequence[RankRequest], live: LiveEvents, ranking: str, show: Callable[[float], None]
) -> Recorded:
    """Asks, appends, and rebuilds the store halfway.

    Args:
        plan: How much.
        asked: Requests to make, over and over.
        live: Appends.
        ranking: Address of the ranking service.
        show: Called with the share that is done.
    """
    recorded, numbers, lock = Recorded(), iter(range(plan.requests)), threading.Lock()

    def ask() -> None:
        with RankClient(ranking) as client:
            while (number := _next(numbers, lock)) is not None:
                request = asked[number % len(asked)]
                if number % plan.append_every == 0:
                    live.append(request, number)
                if number == plan.requests // 2:
                    live.rebuild()
                result = client.rank(request, Deadline.after(DEADLINE_S), f"record-{number}")
                with lock:
                    recorded.answered += 1
                    recorded.degraded += result.degraded
                    show(recorded.answered / plan.requests)

    with live, ThreadPoolExecutor(plan.callers) as pool:
        for done in [pool.submit(ask) for _ in range(plan.callers)]:
            done.result()
    recorded.appended = live.count
    return recorded


def _next(numbers: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)


def read_requests(roots: Roots, dataset: Path, candidates: int) -> list[RankRequest]:
    """Gives the requests of the dataset's impressions, each with its first candidates; in a drawn order."""
    bundle = load_bundle(roots.bundle)
    impressions = load_impressions(dataset, bundle.schema, ())
    found = [_shorter(request, candidates) for _, request in requests_of(impressions, bundle.schema)]
    return [found[at] for at in np.random.default_rng(0).permutation(len(found))]


def _shorter(request: RankRequest, candidates: int) -> RankRequest:
    rows = np.arange(min(candidates, len(request.candidates)))
    return replace(
        request,
        candidates=Candidates.by_id(request.candidates.item[rows]),
        candidate_fields={name: column[rows] for name, column in request.candidate_fields.items()},
    )


class LiveEvents(Closing):
    """Appends events to the store that search serves, and rebuilds it; thread-safe, a context manager."""

    def __init__(self, root: Path, address: str) -> None:
        self._root = root
        self._channel = grpc.insecure_channel(address)
        self._search = search_pb2_grpc.SearchServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        with BehaviorStore.open(root) as store, store.snapshot() as snapshot:
            self._streams = itertools.cycle(snapshot.streams)
        self._lock = threading.Lock()
        self.count = 0

    def append(self, request: RankRequest, number: int) -> None:
        """Appends an event of the request's user, of one of its candidates, a little before its time."""
        message = search_pb2.AppendRequest()
        with self._lock:
            domain, action = next(self._streams)
            self.count += 1
        put_column(message.user, np.array([request.user], np.uint64))
        put_column(message.item, request.candidates.item[number % len(request.candidates)].reshape(1))
        put_column(message.timestamp_ms, np.array([request.as_of_ms - 1 - number], np.int64))
        message.domains.append(domain)
        message.actions.append(action)
        self._search.Append(message, timeout=DEADLINE_S)

    def rebuild(self) -> None:
        """Merges the live events into a new generation, which the servers follow; the old one is kept."""
        rebuild(self._root, keep=KEPT)
        self._admin.Reload(admin_pb2.ReloadRequest(), timeout=600)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


if __name__ == "__main__":
    run(command_line(None, main))
