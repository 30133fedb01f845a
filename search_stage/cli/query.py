"""The command that asks one question: `query`, and with `--explain` why the answer is what it is."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from search_stage.cli.explain import REPEATS, SOURCES, explain
from search_stage.cli.lookup import find_candidate, find_user
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store.behavior_store import BehaviorStore
from store.cli.shared import JsonOption, add_row, age_text, facts, print_json, say, time_text
from store.retrieval import NO_LEVEL, Candidates, SearchRequest
from store.screen import screen

if TYPE_CHECKING:
    from search_stage.cli.explain import CandidateExplanation, Explanation
    from store.retrieval import SearchResult


def query_command(
    store: Annotated[Path, typer.Option("--store", help="Root of the behavior store.")],
    user: Annotated[str, typer.Option(help="User, by id as it stands in the input, or by name.")],
    candidate: Annotated[list[str], typer.Option(help="Ad, by id or by name; may be repeated.")],
    index: Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")] = (
        None
    ),
    config: Annotated[Path | None, typer.Option("--config", help="search.yaml; default: the packaged one.")] = None,
    as_of: Annotated[int | None, typer.Option("--as-of", help="Milliseconds UTC; default: now.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Behaviors to print per candidate, the newest.")] = 20,
    behavior_field: Annotated[
        list[str] | None,
        typer.Option(help="Side-info field of behaviors to print, too, as the ranker asks for it; may be repeated."),
    ] = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Also say how far hard search climbed, what there was room for, the time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what search retrieves for some candidates of one user."""
    with BehaviorStore.open(store) as opened:
        with opened.snapshot() as snapshot:
            items = [find_candidate(snapshot, text) for text in candidate]
            key = find_user(snapshot, user)
        request = SearchRequest(
            user=key,
            as_of_ms=time.time_ns() // 1_000_000 if as_of is None else as_of,
            candidates=Candidates.by_id(np.array(items, np.uint64)),
            with_names=True,
            behavior_fields=tuple(behavior_field or ()),
        )
        generation, loaded = IndexGeneration.open(index) if index is not None else None, SearchConfig.load(config)
        result = Searcher(opened, generation, loaded).search(request)
        with opened.snapshot() as snapshot:
            categories = [snapshot.name_of("category", int(key)) for key in result.candidate_category]
        explanation = explain(opened, generation, loaded, request) if explained else None
    if as_json:
        print_json(_values(request, result, categories, explanation))
        return
    console = screen(soft_wrap=True)
    for at in range(len(items)):
        console.print(_behaviors_table(request, result, at, categories[at], rows))
        if explanation is not None:
            for table in _explanation_tables(explanation.candidates[at]):
                console.print(table)
    if explanation is not None:
        console.print(_timings_table(explanation))
    index_name = result.index_generation or "none: soft search is off"
    say(
        f"{result.num_behaviors:,} behaviors before the as-of time; store {result.store_generation}, index {index_name}"
    )


def _listed(request: SearchRequest, result: SearchResult, candidate: int) -> list[dict[str, Any]]:
    """Gives one candidate's behaviors, newest first, as they are printed."""
    assert result.names is not None, "asked for"
    behaviors, words = result.behaviors, result.vocabulary
    listed = []
    for at in range(int(result.offsets[candidate + 1]) - 1, int(result.offsets[candidate]) - 1, -1):
        row, level, source = int(result.index[at]), int(result.match_level[at]), int(result.source[at])
        timestamp_ms = int(behaviors.timestamp_ms[row])
        listed.append(
            {
                "timestamp_ms": timestamp_ms,
                "age_ms": request.as_of_ms - timestamp_ms,
                "item": result.names.behavior_items[row],
                "category": result.names.behavior_categories[row] or None,
                "domain": words.domains[behaviors.domain[row]],
                "action": words.actions[behaviors.action[row]],
                "scene": words.scenes[behaviors.scene[row]],
                "level": None if level == NO_LEVEL else level,
                "found_by": [name for bit, name in SOURCES if source & bit],
                "score": float(result.score[at]) if result.index_generation else None,
                **({"fields": _side_info(result, row)} if result.behavior_fields else {}),
            }
        )
    return listed


def _side_info(result: SearchResult, row: int) -> dict[str, str | float | None]:
    """Gives the side-info of one behavior that was asked for: names of ids, numbers; None = missing."""
    assert result.names is not None, "asked for"
    found: dict[str, str | float | None] = {}
    for field, values in result.behavior_fields.items():
        if field in result.names.behavior_fields:
            found[field] = result.names.behavior_fields[field][row] or None
        else:
            found[field] = None if np.isnan(values[row]) else float(values[row])
    return found


def _values(
    request: SearchRequest, result: SearchResult, categories: list[str], explanation: Explanation | None
) -> dict[str, Any]:
    assert result.names is not None, "asked for"
    candidates: list[dict[str, Any]] = []
    for at, name in enumerate(result.names.candidates):
        of_it = {} if explanation is None else {"explanation": asdict(explanation.candidates[at])}
        candidates.append(
            {
                "candidate": name,
                "id": int(request.candidates.item[at]),
                "category": categories[at] or None,
                **of_it,
                "behaviors": _listed(request, result, at),
            }
        )
    return {
        "user": request.user,
        "as_of_ms": request.as_of_ms,
        "num_behaviors": result.num_behaviors,
        "store_generation": result.store_generation,
        "index_generation": result.index_generation or None,
        **({} if explanation is None else {"timings_ms": explanation.timings_ms}),
        "candidates": candidates,
    }


def _behaviors_table(request: SearchRequest, result: SearchResult, candidate: int, category: str, rows: int) -> Table:
    assert result.names is not None, "asked for"
    listed = _listed(request, result, candidate)
    name = result.names.candidates[candidate]
    title = f"candidate {name}, category {category or 'unknown'}: {len(listed)} behaviors, newest first"
    fields = list(result.behavior_fields)
    columns = ("time (UTC)", "age", "item", "category", "domain", "action", "scene", *map(escape, fields))
    table = Table(*columns, "level", "found by", "score", title=escape(title), title_justify="left")
    for each in listed[:rows]:
        add_row(
            table,
            time_text(each["timestamp_ms"]),
            age_text(each["age_ms"]),
            each["item"],
            each["category"] or "unmapped",
            each["domain"],
            each["action"],
            each["scene"],
            *(_side_text(each["fields"][field]) for field in fields),
            "-" if each["level"] is None else str(each["level"]),
            "+".join(each["found_by"]),
            "-" if each["score"] is None else f"{each['score']:.3f}",
        )
    if len(listed) > rows:
        table.caption = f"and {len(listed) - rows} older ones"
    return table


def _side_text(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"


def _explanation_tables(explanation: CandidateExplanation) -> list[Table]:
    places = Table("search", "asked for", "in the list", "found by it alone", title="room", title_justify="left")
    for place in explanation.places:
        add_row(places, place.source, f"{place.asked:,}", f"{place.used:,}", f"{place.alone:,}")
    climbs = Table(
        *("domain", "matches at level 0, 1 ... or below", "wanted", "stopped at level", "quota", "in the list"),
        title="hard search",
        title_justify="left",
    )
    for climb in explanation.climbs:
        found = ", ".join(f"{count:,}" for count in climb.matches)
        stop = f"{climb.stop_level} of {climb.max_level}"
        add_row(climbs, climb.domain, found, str(climb.min_matches), stop, f"{climb.quota:,}", f"{climb.used:,}")
    streams = Table(
        *("domain", "action", "matches at level 0, 1 ...", "newest"),
        title="match statistics, of the whole history",
        title_justify="left",
    )
    for stream in explanation.streams:
        counts = ", ".join(f"{count:,}" for count in stream.count)
        ages = ", ".join("-" if age_ms < 0 else age_text(age_ms) for age_ms in stream.newest_age_ms)
        add_row(streams, stream.domain, stream.action, counts, ages)
    return [places, climbs, streams]


def _timings_table(explanation: Explanation) -> Table:
    table = facts("request with", f"ms, the fastest of {REPEATS}")
    for name, spent_ms in explanation.timings_ms.items():
        add_row(table, name, f"{spent_ms:.2f}")
    return table
