"""What the served log costs an answer: `python -m scripts.bench served --json FILE`.

One search server, and ranking servers that differ in nothing but what they do beside the answers: nothing, nothing once
more (the noise), the served log, the served log of every request, and a shadow. They are asked in turn, some calls of
one caller each time, in an order that is drawn anew every round. Generated users, an untrained network.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import track

from model_stage.serving.rank_client import RankClient
from scripts.bench.machine import load_average
from scripts.bench.markdown import markdown_table
from scripts.bench.rank.world import build_rank_world
from scripts.bench.report import (
    ReportFile,
    Target,
    finish,
    head,
    new_facts,
    note,
    target,
    targets_section,
    targets_table,
)
from scripts.bench.timing import elapsed_ms
from scripts.servers import started
from serving.call import new_request_id
from serving.deadline import Deadline
from store.command import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model_stage.types import RankRequest
    from scripts.bench.rank.world import RankWorld

LENGTHS = (1_000, 10_000)
CANDIDATES = 100
ITEMS = 50_000
PRESET = "tin"
SHARE, SHADOW_SHARE = 0.01, 0.1
CALLS = 20
"""Of one server in a row; the first, which finds the caches as another left them, is not counted."""
_REQUESTS = 16
"""Of each length."""
_DEADLINE_S = 60.0
PLAIN, AGAIN, LOG, LOG_ALL, SHADOW = "nothing", "nothing, again", f"log, {SHARE}", "log, all", f"shadow, {SHADOW_SHARE}"

WAYS = (PLAIN, AGAIN, LOG, LOG_ALL, SHADOW)


def served(
    json_file: JsonOption = None,
    report: ReportFile = None,
    rounds: Annotated[int, typer.Option(min=2, help="Turns of every server.")] = 200,
    work: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
) -> None:
    """Measures what is done beside the answers, and writes all numbers as JSON."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        facts = new_facts(f"served --json FILE --rounds {rounds}", folder)
        facts["machine"]["load_average_before"] = facts["machine"]["load_average"]
        note("building the world")
        world = build_rank_world(folder / "world", (PRESET,), LENGTHS, ITEMS)
        requests = [world.request(length, CANDIDATES, seed) for length in LENGTHS for seed in range(_REQUESTS)]
        with _servers(world, folder) as clients:
            facts["rows"] = _rows(_measure(clients, requests, rounds))
    facts["machine"]["load_average"] = load_average()
    facts["targets"] = find_targets(facts["rows"])
    finish(facts, _sections(facts), json_file, report, targets_table(facts["targets"]))


@contextmanager
def _servers(world: RankWorld, folder: Path) -> Iterator[dict[str, RankClient]]:
    """Serves search, and ranking in every way; gives a client of each way."""
    bundle = world.bundles[PRESET]
    log, every = ("--served-log", folder / "log"), ("--served-log", folder / "log-all")
    ways: dict[str, tuple[str | Path, ...]] = {
        PLAIN: (),
        AGAIN: (),
        LOG: (*log, "--served-share", str(SHARE)),
        LOG_ALL: (*every, "--served-share", "1"),
        SHADOW: ("--shadow-bundle", bundle, "--shadow-share", str(SHADOW_SHARE)),
    }
    with ExitStack() as stack:
        roots = ("--store", world.searched.store, "--index", world.searched.index, "--config", world.config)
        (folder / "logs").mkdir()
        search = stack.enter_context(started("search_stage", folder / "logs", *roots))
        clients = {}
        for number, way in enumerate(WAYS):
            logs = folder / "logs" / str(number)
            logs.mkdir()
            common = ("--bundle", bundle, "--search", search.address)
            server = stack.enter_context(started("model_stage", logs, *common, *ways[way]))
            clients[way] = stack.enter_context(RankClient(server.address))
        yield clients


def _measure(clients: Mapping[str, RankClient], requests: list[RankRequest], rounds: int) -> dict[str, list[float]]:
    """Gives the times of all calls, by way."""
    took: dict[str, list[float]] = {way: [] for way in clients}
    draw = np.random.default_rng(0)
    for number in track(range(rounds), "rounds"):
        request = requests[number % len(requests)]
        for at in draw.permutation(len(clients)).tolist():
            way = list(clients)[at]
            times = [_call(clients[way], request) for _ in range(CALLS)]
            took[way] += times[1:]
    return took


def _call(client: RankClient, request: RankRequest) -> float:
    request_id = new_request_id()
    return elapsed_ms(lambda: client.rank(request, Deadline.after(_DEADLINE_S), request_id))


def _rows(took: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    plain = float(np.median(took[PLAIN]))
    return [
        {
            "beside": way,
            "p50_ms": float(np.median(times)),
            "p99_ms": float(np.percentile(times, 99)),
            "ratio": float(np.median(times)) / plain,
            "calls": len(times),
        }
        for way, times in took.items()
    ]


def find_targets(rows: list[dict[str, Any]]) -> list[Target]:
    """Gives what the served log may cost."""
    ratio = {row["beside"]: row["ratio"] for row in rows}
    return [target(f"median with a served log of share {SHARE}, over that without", ratio[LOG], "<=", 1.02)]


def _sections(facts: Mapping[str, Any]) -> list[str]:
    names = ("beside the answers", "p50, ms", "p99, ms", "p50 over that of nothing", "calls")
    rows = [
        (row["beside"], f"{row['p50_ms']:.3f}", f"{row['p99_ms']:.3f}", f"{row['ratio']:.4f}", f"{row['calls']:,}")
        for row in facts["rows"]
    ]
    about = (
        f"Requests of {CANDIDATES} candidates, of users with {' and '.join(f'{each:,}' for each in LENGTHS)}",
        f"behaviors, preset `{PRESET}`, one caller; the servers are asked in turn, {CALLS - 1} calls each",
        "time. The second row differs from the first in nothing: that is the noise.",
    )
    return [
        head("what is done beside the answers", facts, *about),
        markdown_table(names, rows),
        targets_section(facts["targets"]),
    ]
