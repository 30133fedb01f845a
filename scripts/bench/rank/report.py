"""The dated report of the benchmark of ranking, and what was to be reached, from what its JSON file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import markdown_table, paragraph, rows_table
from scripts.bench.report import head, target, targets_section

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scripts.bench.report import Target

_PRESET, _COUNT, _LENGTH = "tencent", 100, 10_000
_Facts = Mapping[str, Any]


def find_targets(facts: _Facts) -> list[Target]:
    """Gives what is to be reached of what was measured, and what was."""
    found = [*_network_targets(facts.get("network", ())), *_row_targets(facts.get("rows", ()))]
    if "real_search_ms" in facts:
        found.append(target("search of real requests, ms", facts["real_search_ms"], "<=", 3.0))
    if "workers" in facts:
        what = (
            f"two ranking workers over one, which is at most {facts['workers']['ceiling']:.2f} with search beside them"
        )
        found.append(target(what, facts["workers_ratio"], ">=", 1.7))
    return found


def _network_targets(rows: Sequence[_Facts]) -> Iterator[Target]:
    by_preset = {row["preset"]: row for row in rows}
    for name in ("tencent", "tin"):
        if name in by_preset:
            row = by_preset[name]
            yield target(f"network `{name}` over {row['attentions']} plain attentions", _over_floor(row), "<=", 1.5)
            yield target(f"forward and backward of `{name}` over its forward", _over_forward(row), "<=", 3.0)
    if "popularity" in by_preset:
        yield target("network `popularity`, ms", by_preset["popularity"]["network_ms"], "<=", 1.0)


def _row_targets(rows: Sequence[_Facts]) -> Iterator[Target]:
    mine = {(row["C"], row["L"]): row for row in rows if row["preset"] == _PRESET}
    row = mine.get((_COUNT, _LENGTH))
    if row is not None:
        at = f"`{_PRESET}` over gRPC, C = {_COUNT}, L = {_LENGTH:,}"
        yield target(f"{at}: p50, ms", row["p50_ms"], "<=", 20.0)
        yield target(f"{at}: p99, ms", row["p99_ms"], "<=", 40.0)
        yield target(f"{at}: p50 over control_shared", row["p50_ms"] / row["control_shared_ms"], "<=", 1.6)
        yield target(f"{at}: control_naive over p50", row["control_naive_ms"] / row["p50_ms"], ">=", 25.0)
    lengths = sorted(length for count, length in mine if count == _COUNT)
    if len(lengths) > 1:
        short, long = (mine[_COUNT, length] for length in (lengths[0], lengths[-1]))
        what = f"`{_PRESET}` over gRPC, C = {_COUNT}: p50 at L = {long['L']:,} over L = {short['L']:,}"
        yield target(what, long["p50_ms"] / short["p50_ms"], "<=", 1.5)


def sections(facts: _Facts) -> list[str]:
    """Gives the sections of the report, of the parts that were measured."""
    top = head(
        "Ranking",
        facts,
        "Generated users of exactly L behaviors, generated ads, two tables of 64 dimensions, three targets with",
        "positions of their own (`scripts/bench/rank/model.py`, `scripts/bench/rank/world.py`). The networks are",
        "untrained, and published and served as trained ones are: what a request costs does not depend on what was",
        "learned. Medians in milliseconds, one thread; everything alternates with its controls, some calls of one",
        "kind in a row, of which the first is not counted.",
        torch=facts["torch"],
    )
    found = [top]
    if facts["targets"]:
        found.append(targets_section(facts["targets"]))
    if "before" in facts:
        found.append(_about_before(facts["before"]))
    if "network" in facts:
        found.append(_network(facts))
    if "rows" in facts:
        found.append(_rows(facts))
    if "real_search" in facts:
        found.append(_real_search(facts["real_search"]))
    if "workers" in facts:
        found.append(_workers(facts["workers"]))
    return found


def _about_before(before: _Facts) -> str:
    single = {
        "what": ("search of real requests, ms", "two ranking workers over one"),
        "name": ("real_search_ms", "workers_ratio"),
    }
    rows = [(what, f"{before[name]:.2f}") for what, name in zip(*single.values(), strict=True) if name in before]
    note = paragraph(
        f"*before*: a run of another commit on {before['date']}, command `{before['command']}`, load average",
        f"{before['machine']['load_average']} at its end.",
    )
    return "\n\n".join(("## Before", note, *([markdown_table(("what", "before"), rows)] if rows else ())))


def _network(facts: _Facts) -> str:
    before = facts.get("network_before") or facts.get("before", {}).get("network", ())
    others = {row["preset"]: row for row in before}
    rows = [_network_row(row, others.get(row["preset"], {}) if others else None) for row in facts["network"]]
    note = paragraph(
        "One request of 100 candidates, each with 100 behaviors of its own out of a union of 1,500. *floor*: one",
        "attention of `tin` written plainly (`scripts/bench/rank/floor.py`), forward. *attentions*: softmaxes over a",
        "candidate's behaviors that the preset's blocks take, of every target, layer, subset and head; blocks that",
        "read sequences have none. *forward* in inference mode; *step*: forward and backward in training mode.",
        "*before*: the same of another commit, processes of the two in turn." if "network_before" in facts else "",
    )
    return "\n\n".join(("## Networks", note, rows_table(rows)))


def _network_row(row: _Facts, other: _Facts | None) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "preset": row["preset"],
        "attentions": row["attentions"],
        "floor": row["plain_attention_ms"],
    }
    sides = [("", row)] if other is None else [("before: ", other), ("", row)]
    for prefix, side in sides:
        cells |= {
            f"{prefix}forward": side.get("network_ms"),
            f"{prefix}over floors": _over_floor(side) if side.get("attentions") else None,
            f"{prefix}step": side.get("backward_ms"),
            f"{prefix}step over forward": _over_forward(side) if side else None,
        }
    if other is not None:
        for name, key in (("forward", "network_ms"), ("step", "backward_ms")):
            cells[f"{name}, before over after"] = other[key] / row[key] if other else None
    return cells


def _rows(facts: _Facts) -> str:
    others = {_key(row): row for row in facts.get("before", {}).get("rows", ())}
    rows = [_row(row, others.get(_key(row), {}) if others else None) for row in facts["rows"]]
    note = paragraph(
        "One caller, one worker process of search and one of ranking for each preset; k = 50 hard and 50 soft.",
        "*shared*: the same weights as plain padded tensors, from the encoded request on, so without search and",
        "service (`scripts/bench/rank/shared.py`); it is checked to give the service's probabilities. *naive*: SIM",
        "with the history repeated per candidate, search included (`scripts/bench/rank/naive.py`); above a million",
        "candidates x behaviors it scores fewer candidates, and the time is scaled up. *search* and *network*: these",
        "parts of the request in process.",
    )
    return "\n\n".join(("## Requests over both services", note, rows_table(rows)))


def _row(row: _Facts, other: _Facts | None) -> dict[str, Any]:
    cells: dict[str, Any] = {name: row[name] for name in ("preset", "C", "L")}
    if other is not None:
        cells |= {"before: p50": other.get("p50_ms"), "before: p99": other.get("p99_ms")}
    return cells | {
        "p50": row["p50_ms"],
        "p99": row["p99_ms"],
        "calls": row["calls"],
        "shared": row["control_shared_ms"],
        "naive": row["control_naive_ms"],
        "p50 over shared": row["p50_ms"] / row["control_shared_ms"],
        "naive over p50": row["control_naive_ms"] / row["p50_ms"],
        "search": row["search_ms"],
        "network": row["network_ms"],
        "retrieved": row["retrieved"],
        "union": row["union"],
    }


def _real_search(whole: _Facts) -> str:
    note = paragraph(
        f"{whole['requests']:,} requests of Complete Journey's test split, each with {whole['C']} coupons, which cover",
        f"{whole['products'] / whole['C']:.0f} products each (`scripts/bench/search/real.py`). Each comes once among",
        "all others, in process, over gRPC and as its control, `faiss.knn` alone, in turn; milliseconds.",
    )
    names = [name for name in whole if name.endswith("_ms")]
    return "\n\n".join(("## Search of real requests", note, rows_table([{name: whole[name] for name in names}])))


def _workers(facts: _Facts) -> str:
    note = paragraph(
        f"`{facts['preset']}`, C = {facts['C']}, L = {facts['L']:,}. Client processes with some connections each ask",
        "in closed loops, from the same cores, of which search takes its part; a worker has one core, two have two.",
        f"{facts['cores']} cores: with what a request costs workers, search and clients, two workers can give at most",
        f"{facts['ceiling']:.2f} times what one gives; they gave {facts['ratio']:.2f} times.",
    )
    memory = "Memory of each of the workers, MiB; *table*: the file of weights, where it is mapped."
    tables = rows_table(facts["rows"]), memory, rows_table(facts["memory"])
    return "\n\n".join(("## Ranking workers behind one port", note, *tables))


def _key(row: _Facts) -> tuple[str, int, int]:
    return row["preset"], row["C"], row["L"]


def _over_floor(row: _Facts) -> float:
    return float(row["network_ms"] / (row["attentions"] * row["plain_attention_ms"]))


def _over_forward(row: _Facts) -> float:
    return float(row["backward_ms"] / row["network_ms"])
