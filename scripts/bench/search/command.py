"""What search costs by length of history and number of candidates: `python -m scripts.bench search --json FILE`.

Generated users over a million generated items (`bench.search.world`), and real requests, where the data are
(`bench.search.real`). The control, in the same run, alternating with what it is compared to: plain `faiss.knn` over the
ready-gathered attention vectors of all of the user's behaviors before the request.
"""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.bench.markdown import cells, paragraph, rows_table
from scripts.bench.report import ReportFile, finish, head, new_facts, note, target, targets_section, targets_table
from scripts.bench.search.measure import CATEGORIES, CONFIG, bench_lengths, bench_workers
from scripts.bench.search.real import bench_real, build_real_world
from scripts.bench.search.world import build_world
from scripts.datasets.complete_journey.files import PACKAGE, package_folder
from store.command import JsonOption
from store.terminal import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.bench.report import Target

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
CANDIDATES = (1, 10, 100, 500)
_COUNT = 100
"""Candidates of a request where a target does not say."""


def search(
    items: Annotated[int, typer.Option(min=100_000, help="Items of the catalogue.")] = 1_000_000,
    skew: Annotated[
        float, typer.Option(min=0, help="Popularity of the n-th item is n to the power of minus this.")
    ] = 1,
    longest: Annotated[int, typer.Option(min=1_000, help="Leave out longer histories.")] = LENGTHS[-1],
    calls: Annotated[int, typer.Option(min=1, help="Timed calls of each measure, of the quick ones more.")] = 15,
    real: Annotated[
        Path | None, typer.Option(help=f"Folder of Complete Journey's tables; default: the package {PACKAGE}.")
    ] = None,
    workers: Annotated[bool, typer.Option(help="Also measure the throughput of two worker processes.")] = True,
    json_file: JsonOption = None,
    report: ReportFile = None,
    work: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
) -> None:
    """Measures, prints and writes one row per length of history and number of candidates, and what workers bring."""
    lengths = [length for length in LENGTHS if length <= longest]
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        facts = new_facts(
            f"search --json FILE --items {items} --skew {skew:g} --calls {calls}",
            folder,
            versions={package: version(package) for package in ("faiss-cpu", "numba", "grpcio")},
            config=CONFIG,
            categories=CATEGORIES,
        )
        started_s = time.monotonic()
        world = build_world(folder / "world", lengths, items, skew)
        facts["built_s"] = time.monotonic() - started_s
        facts["rows"] = bench_lengths(world, lengths, CANDIDATES, folder / "logs", calls)
        facts["real"], facts["real_whole"] = _real(real or package_folder(), folder, calls)
        facts["real_search_ms"] = facts["real_whole"] and facts["real_whole"]["search_p50_ms"]
        if workers:
            facts["workers"] = [bench_workers(world, length, folder / "logs") for length in lengths[1:3] or lengths]
    facts["targets"] = _targets(facts)
    tables = [table(*rows[0], rows=map(cells, rows)) for rows in (facts["rows"], facts["real"]) if rows]
    finish(facts, _sections(facts), json_file, report, *tables, targets_table(facts["targets"]))


def _real(originals: Path | None, folder: Path, calls: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Gives the rows of real requests and what all of them take; says so where there are no data for it."""
    if originals is None:
        note(f"real requests are left out: {PACKAGE} is not installed, and --real names no folder")
        return [], None
    measured = bench_real(build_real_world(originals, folder / "real"), folder / "real-logs", calls)
    return measured["rows"], measured["whole"]


def _targets(facts: dict[str, Any]) -> list[Target]:
    """Gives what is to be reached, and what was."""
    rows = facts["rows"]

    def worst(value: Callable[[dict[str, Any]], float], *, length: int | None = None) -> float:
        return max(value(row) for row in rows if row["C"] == _COUNT and length in {None, row["L"]})

    found = [_target("hard_ms at every L", worst(lambda row: row["hard_ms"]), 0.15)]
    for length, bar in ((10_000, 1.5), (100_000, 1.0), (1_000_000, 0.5)):
        if any(row["L"] == length for row in rows):
            ratio = worst(lambda row: row["total_over_control"], length=length)
            found.append(_target(f"total_over_control at L = {length:,}", ratio, bar))
    found.append(_target("rpc_total_ms less total_ms", worst(lambda row: row["rpc_total_ms"] - row["total_ms"]), 1.0))
    if facts["real_whole"] is not None:
        found.append(target("real_search_ms", facts["real_search_ms"], "<=", 3.0))
    found.append(target("recall_at_50", min(row["recall_at_50"] for row in rows), ">=", 0.99))
    for workers in facts.get("workers", ()):
        what = f"two workers over one at L = {workers['L']:,}, C = {_COUNT}"
        found.append(target(what, workers["ratio"], ">=", 1.8))
    return found


def _target(what: str, measured: float, bar: float) -> Target:
    return target(f"{what}, C = {_COUNT}", measured, "<=", bar)


def _sections(facts: dict[str, Any]) -> list[str]:
    """Gives the sections of a report from what the JSON file holds."""
    top = head(
        "Search",
        facts,
        "Generated users with exactly L behaviors in 2 domains x 2 actions over generated items of 2,000 categories,",
        "float32 vectors of 32 dimensions around their categories' (`scripts/bench/search/world.py`). Candidates:",
        f"items of {facts['categories']} categories, each with a vector of its own. k = 50 hard a domain and 50 soft.",
        "One thread. The control: `faiss.knn` with the calibrated threshold over the ready-gathered vectors of all L",
        "behaviors, alternating with what it is compared to; what takes under 20 ms is called eleven times in a row",
        "and the first call is left out. Medians, milliseconds.",
        **facts["versions"],
    )
    workers = [_workers(each) for each in facts.get("workers", ())]
    return [top, targets_section(facts["targets"]), _rows(facts["rows"]), _real_rows(facts), *workers]


def _rows(rows: Sequence[dict[str, Any]]) -> str:
    about = paragraph(
        "*keys*: distinct vectors behind the behaviors. *hard*: level matches and hard search. *soft*: keys and exact",
        "soft search. *approximate*: the same within the clusters nearest to the query, one in `soft.probe_one_in` of",
        "them, and its recall. *total*: a whole `Searcher.search`. *rested*: the same after a pause of 2 ms, when",
        "others have had the caches of this machine. *rpc*: the same through gRPC and back as arrays, one caller,",
        "which gives the server such pauses. *echo*: a bare gRPC method in Python that gets and answers as many bytes",
        "and does nothing. *overhead*: what *rpc* takes beyond *echo* where the server has its answer ready: codec and",
        "edge (deadline, queue, metrics, log).",
        "*recall*: of the k best scores over all behaviors, by score. *entries*: of the answer.",
    )
    return "\n\n".join(("## By length and candidates", about, rows_table(rows)))


def _real_rows(facts: dict[str, Any]) -> str:
    whole, title = facts["real_whole"], "## Real requests"
    if whole is None:
        return f"{title}\n\nLeft out: there were no data for them."
    about = paragraph(
        f"Complete Journey: the {whole['requests']:,} requests of the test split with {whole['C']} coupons, which",
        f"cover {whole['products']:,.0f} products together, after `scripts/configs/complete_journey`. The first table",
        "has all of them, each asked once among the others; the second has the requests at four quantiles of the",
        "history's length.",
    )
    return "\n\n".join((title, about, rows_table([whole]), rows_table(facts["real"])))


def _workers(facts: dict[str, Any]) -> str:
    about = paragraph(
        "Two client processes with eight connections each ask in closed loops, from the same cores; a worker has one",
        "core, two have two. Of each number of workers the best of some rounds.",
        f"{facts['cores']} cores: with what a request costs server and clients,",
        f"two workers can give at most {facts['ceiling']:.2f} times what one gives; they gave",
        f"{facts['ratio']:.2f} times.",
        f"The attention table has {facts['table_mib']:,.0f} MiB and is mapped: *table PSS* is a worker's share of it.",
    )
    return "\n\n".join(
        (
            f"## Workers behind one port, L = {facts['L']:,}",
            about,
            rows_table(facts["rows"]),
            "Memory of each of the workers, MiB:",
            rows_table(facts["memory"]),
        )
    )
