"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import paragraph, rows_table
from scripts.bench.report import head, target, targets_section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.bench.report import Target

_COUNT = 100
"""Candidates of a request where a target does not say."""


def targets(facts: dict[str, Any]) -> list[Target]:
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
    found.append(target("recall_at_50", min(row["recall_at_50"] for row in rows), ">=", 0.99))
    for workers in facts.get("workers", ()):
        what = f"two workers over one at L = {workers['L']:,}, C = {_COUNT}"
        found.append(target(what, workers["ratio"], ">=", 1.8))
    return found


def _target(what: str, measured: float, bar: float) -> Target:
    return target(f"{what}, C = {_COUNT}", measured, "<=", bar)


def sections(facts: dict[str, Any]) -> list[str]:
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
    return [top, targets_section(facts["targets"]), _rows(facts["rows"]), *workers]


def _rows(rows: Sequence[dict[str, Any]]) -> str:
    note = paragraph(
        "*keys*: distinct vectors behind the behaviors. *hard*: level matches and hard search. *soft*: keys and exact",
        "soft search. *approximate*: the same within the clusters nearest to the query, one in `soft.probe_one_in` of",
        "them, and its recall. *total*: a whole `Searcher.search`. *rested*: the same after a pause of 2 ms, when",
        "others have had the caches of this machine. *rpc*: the same through gRPC and back as arrays, one caller,",
        "which gives the server such pauses. *echo*: a bare gRPC method in Python that gets and answers as many bytes",
        "and does nothing; what *rpc* takes beyond *rested* and *echo* is codec and edge (deadline, queue, metrics,",
        "log).",
        "*recall*: of the k best scores over all behaviors, by score. *entries*: of the answer.",
    )
    return "\n\n".join(("## By length and candidates", note, rows_table(rows)))


def _workers(facts: dict[str, Any]) -> str:
    note = paragraph(
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
            note,
            rows_table(facts["rows"]),
            "Memory of each of the workers, MiB:",
            rows_table(facts["memory"]),
        )
    )
