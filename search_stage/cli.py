"""`lookback-search`: build an index, ask one question, serve. A composition root."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from search_stage.config import SearchConfig
from search_stage.errors import InvalidRequestError, SearchError
from search_stage.generation import IndexGeneration, build_index
from search_stage.searcher import Searcher
from store.errors import InputError, StoreError
from store.reading.behavior_store import BehaviorStore
from store.reading.retrieval import NO_LEVEL, SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT, Candidates, SearchRequest
from store.types import NO_ID, parse_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.reading.retrieval import SearchResult

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Stage one: what matters of a user's past, per ad.")
console = Console()

_SOURCES = ((SOURCE_HARD, "hard"), (SOURCE_SOFT, "soft"), (SOURCE_RECENT, "recent"))

StoreOption = Annotated[Path, typer.Option("--store", help="Root of the behavior store.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Root of the index; without it soft search is off.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="search.yaml; default: the packaged one.")]


@app.command()
def query(
    store: StoreOption,
    user: Annotated[str, typer.Option(help="User id, as it stands in the input.")],
    candidate: Annotated[list[str], typer.Option(help="Ad id, as it stands in the input; may be repeated.")],
    index: IndexOption = None,
    config: ConfigOption = None,
    as_of: Annotated[int | None, typer.Option("--as-of", help="Milliseconds UTC; default: now.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Behaviors to print per candidate, the newest.")] = 20,
) -> None:
    """Print what search retrieves for some candidates of one user."""
    items = [parse_id(text, "candidate") for text in candidate]
    request = SearchRequest(
        user=parse_id(user, "user"),
        as_of_ms=time.time_ns() // 1_000_000 if as_of is None else as_of,
        candidates=Candidates(
            item=np.array(items, np.uint64),
            category=np.full(len(items), NO_ID, np.uint64),
            covers=np.empty(0, np.uint64),
            covers_offsets=np.zeros(len(items) + 1, np.int64),
        ),
        with_names=True,
    )
    with BehaviorStore.open(store) as opened:
        generation = IndexGeneration.open(index) if index is not None else None
        searcher = Searcher(opened, generation, SearchConfig.load(config))
        started = time.perf_counter()
        result = searcher.search(request)
        spent_ms = (time.perf_counter() - started) * 1000
    for at in range(len(items)):
        console.print(_candidate_table(result, at, rows))
    index_name = result.index_generation or "none: soft search is off"
    console.print(
        f"{result.num_behaviors:,} behaviors before the as-of time; {spent_ms:.1f} ms; "
        f"store {result.store_generation}, index {index_name}",
        soft_wrap=True,
    )


@app.command("build-index")
def build(
    export: Annotated[Path, typer.Option(help="Root of bundles, a bundle, or its attention.safetensors.")],
    store: StoreOption,
    index: Annotated[Path, typer.Option("--index", help="Root to publish the index under.")],
) -> None:
    """Build an index generation from a model's export and publish it."""
    with BehaviorStore.open(store) as opened:
        name = build_index(export, opened, index)
    table = IndexGeneration.open(index, name)
    console.print(f"published index {name}: {len(table.table) - 1:,} nodes, {table.dim} dimensions", soft_wrap=True)


@app.command()
def serve(
    store: StoreOption,
    index: IndexOption = None,
    config: ConfigOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; another than loopback needs --insecure.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 = any free one.")] = 50051,
    port_file: Annotated[Path | None, typer.Option(help="File to write the bound port to.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of the Prometheus page; default: none.")] = None,
    reflection: Annotated[bool, typer.Option("--reflection", help="Offer gRPC server reflection.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without encryption or access control.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Also offer Append and DeleteUser; one process per store may.")
    ] = False,
) -> None:
    """Serve search over gRPC until SIGTERM."""
    from search_stage.server import serve as run_server
    from store.serving import ServeOptions

    options = ServeOptions(
        host=host,
        port=port,
        port_file=port_file,
        metrics_port=metrics_port,
        reflection=reflection,
        insecure=insecure,
    )
    run_server(store, index, SearchConfig.load(config), options, append=append)


def _candidate_table(result: SearchResult, candidate: int, rows: int) -> Table:
    assert result.names is not None, "asked for"
    start, stop = (int(at) for at in result.offsets[candidate : candidate + 2])
    shown = range(stop - 1, max(stop - rows, start) - 1, -1)
    category = int(result.candidate_category[candidate])
    title = f"candidate {result.names.candidates[candidate]}, category {'unknown' if category == NO_ID else category}"
    table = Table(title=f"{title}: {stop - start} behaviors, newest first", title_justify="left")
    for column in ("time", "item", "category", "domain", "action", "level", "source", "score"):
        table.add_column(column)
    for at in shown:
        table.add_row(*_behavior_cells(result, at))
    if len(shown) < stop - start:
        table.caption = f"and {stop - start - len(shown)} older ones"
    return table


def _behavior_cells(result: SearchResult, at: int) -> Sequence[str]:
    assert result.names is not None, "asked for"
    behaviors, vocabulary, row = result.behaviors, result.vocabulary, int(result.index[at])
    when = datetime.fromtimestamp(int(behaviors.timestamp_ms[row]) / 1000, UTC)
    level, source = int(result.match_level[at]), int(result.source[at])
    return (
        f"{when:%Y-%m-%d %H:%M}",
        result.names.behavior_items[row],
        result.names.behavior_categories[row] or "unmapped",
        vocabulary.domains[behaviors.domain[row]],
        vocabulary.actions[behaviors.action[row]],
        "-" if level == NO_LEVEL else str(level),
        "+".join(name for bit, name in _SOURCES if source & bit),
        f"{result.score[at]:.3f}" if result.index_generation else "-",
    )


def main() -> None:
    """Runs the command line: a known error is one line; exit code 2 = the call is wrong, 1 = what it works on is."""
    try:
        app()
    except (SearchError, StoreError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, InvalidRequestError | InputError) else 1)
