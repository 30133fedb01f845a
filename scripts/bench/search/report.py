"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COUNT = 100
"""Candidates of a request where a target does not say."""


def targets(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Gives what is to be reached, and what was: `what`, `measured`, `bar` and `met` each."""
    rows = facts["rows"]

    def worst(value: Callable[[dict[str, Any]], float], *, length: int | None = None) -> float:
        return max(value(row) for row in rows if row["C"] == _COUNT and length in {None, row["L"]})

    found = [_target("hard_ms at every L", worst(lambda row: row["hard_ms"]), 0.15)]
    for length, bar in ((10_000, 1.5), (100_000, 1.0), (1_000_000, 0.5)):
        if any(row["L"] == length for row in rows):
            ratio = worst(lambda row: row["total_over_control"], length=length)
            found.append(_target(f"total_over_control at L = {length:,}", ratio, bar))
    found.append(_target("rpc_total_ms less total_ms", worst(lambda row: row["rpc_total_ms"] - row["total_ms"]), 1.0))
    recall = min(row["recall_at_50"] for row in rows)
    found.append({"what": "recall_at_50", "measured": recall, "bar": ">= 0.99", "met": recall >= 0.99})
    for workers in facts.get("workers", ()):
        what, ratio = f"two workers over one at L = {workers['L']:,}, C = {_COUNT}", workers["ratio"]
        found.append({"what": what, "measured": ratio, "bar": ">= 1.8", "met": ratio >= 1.8})
    return found


def _target(what: str, measured: float, bar: float) -> dict[str, Any]:
    return {"what": f"{what}, C = {_COUNT}", "measured": measured, "bar": f"<= {bar}", "met": measured <= bar}


def write_report(facts: dict[str, Any]) -> str:
    """Gives the text of a report from what the JSON file holds."""
    parts = [_head(facts), _targets(facts), _rows(facts["rows"])]
    parts += [_workers(workers) for workers in facts.get("workers", ())]
    return "\n\n".join(parts) + "\n"


def _head(facts: dict[str, Any]) -> str:
    machine = facts["machine"]
    versions = {**machine["versions"], **facts["versions"]}
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    command = paragraph(f"Command: `{facts['command']}`. All numbers are in the JSON file beside this one.")
    world = paragraph(
        "Generated users with exactly L behaviors in 2 domains x 2 actions over generated items of 2,000 categories,",
        "float32 vectors of 32 dimensions around their categories' (`scripts/bench/search/world.py`). Candidates:",
        f"items of {facts['categories']} categories, each with a vector of its own. k = 50 hard a domain and 50 soft.",
        "One thread. The control: `faiss.knn` with the calibrated threshold over the ready-gathered vectors of all L",
        "behaviors, in turn with what it is compared to; what takes under 20 ms is called eleven times in its turn",
        "and the first call is left out. Medians, milliseconds.",
    )
    where = paragraph(
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']};",
        f"load average {machine['load_average']} before. Python {machine['python']}, {packages}.",
    )
    return "\n\n".join((f"# {facts['date']} Search", command, world, where))


def _targets(facts: dict[str, Any]) -> str:
    rows = [
        (target["what"], f"{target['measured']:.3g}", target["bar"], "yes" if target["met"] else "**no**")
        for target in facts["targets"]
    ]
    return "## Targets\n\n" + markdown_table(("what", "measured", "to reach", "met"), rows)


def _rows(rows: Sequence[dict[str, Any]]) -> str:
    names = tuple(rows[0])
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
    cells = [tuple(_cell(name, value) for name, value in row.items()) for row in rows]
    return "## By length and candidates\n\n" + note + "\n\n" + markdown_table(names, cells)


def _cell(name: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if "recall" in name else f"{value:,.2f}"


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
            _plain_table(facts["rows"]),
            "Memory of each of the workers, MiB:",
            _plain_table(facts["memory"]),
        )
    )


def _plain_table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        tuple(f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" for value in row.values()) for row in rows
    ]
    return markdown_table(tuple(rows[0]), cells)
