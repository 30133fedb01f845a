"""The command that asks one question: `query`, and with `--explain` why the answer is what it is."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from search_stage.cli.explain import REPEATS, explain
from search_stage.cli.lookup import find_candidate, find_user
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store.behavior_store import BehaviorStore
from store.command import AsOfOption, ConfigOption, IndexOption, JsonOption, StoreOption
from store.retrieval import NO_LEVEL, SOURCE_NAMES, Candidates, SearchRequest
from store.terminal import age_text, field_text, more_text, show_report, table, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from search_stage.cli.explain import CandidateExplanation, Explanation
    from store.retrieval import SearchResult
    from store.terminal import Part


def query(
    store: StoreOption,
    user: Annotated[str, typer.Option(help="User, by id as it stands in the input, or by name.")],
    candidate: Annotated[list[str], typer.Option(help="Ad, by id or by name; may be repeated.")],
    index: IndexOption = None,
    config: ConfigOption = None,
    as_of: AsOfOption = None,
    rows: Annotated[int, typer.Option(min=0, help="Behaviors to print per candidate, the newest.")] = 20,
    behavior_field: Annotated[
        list[str] | None,
        typer.Option(help="Side-info field of behaviors to print, too, as the ranker asks for it; may be repeated."),
    ] = None,
    explained: Annotated[
        bool, typer.Option("--explain", help="Also say how far hard search climbed, what there was room for, the time.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Print what search retrieves for some candidates of one user."""
    loaded = SearchConfig.load(config)
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
        generation = IndexGeneration.open(index) if index is not None else None
        result = Searcher(opened, generation, loaded).search(request)
        with opened.snapshot() as snapshot:
            categories = [snapshot.name_of("category", int(key)) for key in result.candidate_category]
        explanation = explain(opened, generation, loaded, request) if explained else None
    found = _values(request, result, categories, explanation)
    show_report(_tables(found, list(result.behavior_fields), explanation, rows), found, json_file)


def _listed(request: SearchRequest, result: SearchResult, candidate: int) -> list[dict[str, Any]]:
    """Gives one candidate's behaviors, newest first."""
    assert result.names is not None, "asked for"
    behaviors, words, fields = result.behaviors, result.vocabulary, result.readable_fields()
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
                "found_by": [name for bit, name in SOURCE_NAMES if source & bit],
                "score": float(result.score[at]) if result.index_generation else None,
                **({"fields": {name: values[row] for name, values in fields.items()}} if fields else {}),
            }
        )
    return listed


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


def _tables(found: dict[str, Any], fields: list[str], explanation: Explanation | None, rows: int) -> Iterator[Part]:
    for at, candidate in enumerate(found["candidates"]):
        yield _behaviors_table(candidate, fields, rows)
        if explanation is not None:
            yield from _explanation_tables(explanation.candidates[at])
    if explanation is not None:
        spent = {name: f"{spent_ms:.2f}" for name, spent_ms in explanation.timings_ms.items()}
        yield {"request with": f"ms, the fastest of {REPEATS}", **spent}
    generations = f"store {found['store_generation']}, index {found['index_generation'] or 'none: soft search is off'}"
    yield f"{found['num_behaviors']:,} behaviors before the as-of time; {generations}"


def _behaviors_table(candidate: dict[str, Any], fields: list[str], rows: int) -> Table:
    behaviors = candidate["behaviors"]
    category = candidate["category"] or "unknown"
    return table(
        *("time (UTC)", "age", "item", "category", "domain", "action", "scene", *fields, "level", "found by", "score"),
        rows=(
            (
                time_text(each["timestamp_ms"]),
                age_text(each["age_ms"]),
                each["item"],
                each["category"] or "unmapped",
                each["domain"],
                each["action"],
                each["scene"],
                *(field_text(each["fields"][field]) for field in fields),
                field_text(each["level"]),
                "+".join(each["found_by"]),
                "-" if each["score"] is None else f"{each['score']:.3f}",
            )
            for each in behaviors[:rows]
        ),
        title=f"candidate {candidate['candidate']}, category {category}: {len(behaviors)} behaviors, newest first",
        caption=more_text(len(behaviors), rows, "older ones"),
    )


def _explanation_tables(explanation: CandidateExplanation) -> Iterator[Table]:
    yield table(
        *("search", "asked for", "in the list", "found by it alone"),
        rows=((each.source, each.asked, each.used, each.alone) for each in explanation.places),
        title="room",
    )
    yield table(
        *("domain", "matches at level 0, 1 ... or below", "wanted", "stopped at level", "quota", "in the list"),
        rows=(
            (
                climb.domain,
                ", ".join(f"{count:,}" for count in climb.matches),
                climb.min_matches,
                f"{climb.stop_level} of {climb.max_level}",
                climb.quota,
                climb.used,
            )
            for climb in explanation.climbs
        ),
        title="hard search",
    )
    yield table(
        *("domain", "action", "matches at level 0, 1 ...", "newest", "oldest", "no older than"),
        rows=(
            (
                stream.domain,
                stream.action,
                ", ".join(f"{count:,}" for count in stream.count),
                _ages(stream.newest_age_ms),
                _ages(stream.oldest_age_ms),
                "; ".join(
                    f"{age}: {', '.join(f'{level[age]:,}' for level in stream.within)}" for age in stream.within[0]
                ),
            )
            for stream in explanation.streams
        ),
        title="match statistics, of the whole history",
    )


def _ages(ages_ms: tuple[int, ...]) -> str:
    return ", ".join("-" if age_ms < 0 else age_text(age_ms) for age_ms in ages_ms)
