"""`lookback-model explain`: what stands behind one candidate's probabilities, in this process or of a server."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_stage.cli.request import FieldsOption, name_fields_file, request_of
from model_stage.cli.search import open_searcher
from model_stage.cli.tables import attention_lines, contribution_table, difference_lines, explanation_table
from serving import ClientSecurity
from serving.command import client_options
from serving.deadline import Deadline
from store.command import AsOfOption, ConfigOption, IndexOption, JsonOption, PlotOption, UserOption
from store.terminal import show_report
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from model_stage.types import ExplainResult, RankRequest


@client_options()
def explain(
    user: UserOption,
    candidate: Annotated[str, typer.Option(help="Ad id, as it stands in the input.")],
    security: ClientSecurity,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    as_of: AsOfOption = None,
    fields: FieldsOption = None,
    server: Annotated[
        str | None, typer.Option(help="host:port of the ranking service to ask; else in process, by the four below.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Root of the behavior store.")] = None,
    index: IndexOption = None,
    bundle: Annotated[Path | None, typer.Option(help="Root of model bundles.")] = None,
    config: ConfigOption = None,
    deadline_s: Annotated[float, typer.Option(help="Seconds to wait for a server's answer.")] = 10.0,
    rows: Annotated[int, typer.Option(min=1, help="Behaviors to show; the JSON has them all.")] = 20,
    json_file: JsonOption = None,
    plot: PlotOption = None,
) -> None:
    """Say why a candidate scores as it does: behaviors, attention, what each part of the input adds."""
    from model_stage.inspection.plot import plot_explanation

    request = request_of(user, [candidate], as_of, fields, target or ())
    with name_fields_file(fields):
        if server is not None:
            explained = _ask(server, security, request, deadline_s)
        elif store is not None and bundle is not None:
            explained = _explain_here(store, index, bundle, config, request)
        else:
            raise typer.BadParameter("give --server, or --store and --bundle", param_hint="--server")
    if explained.candidate_name == str(parse_id(candidate)):  # the store knows no name: as it was asked for
        explained = replace(explained, candidate_name=candidate)
    sums = {"attention_sums": explained.attention_sums}
    content = {"user": user, "as_of_ms": request.as_of_ms, **asdict(explained), **sums}
    show_report(_parts(explained, rows), content, json_file)
    if plot is not None:
        plot_explanation(plot, explained, request.as_of_ms)


def _ask(server: str, security: ClientSecurity, request: RankRequest, deadline_s: float) -> ExplainResult:
    from model_stage.serving.rank_client import RankClient

    with RankClient(server, security) as client:
        return client.explain(request, 0, Deadline.after(deadline_s))


def _explain_here(
    store: Path, index: Path | None, bundle: Path, config: Path | None, request: RankRequest
) -> ExplainResult:
    from model_stage.ranking.ranker import Ranker

    with open_searcher(store, index, config) as (_, retriever):
        return Ranker.load(bundle, retriever).explain(request)


def _parts(explained: ExplainResult, rows: int) -> Iterator[Table | str]:
    yield explanation_table(explained, rows, scores=True)
    yield contribution_table(explained)
    yield from attention_lines(explained)
    versions = explained.versions
    yield f"store {versions.store_generation}, index {versions.index_generation or 'none'}, bundle {versions.bundle}"
    if explained.missing:
        yield f"without {', '.join(explained.missing)}, which the bundle learned from"
    yield from difference_lines(explained.search_differences)
    if explained.ancestors_reason:
        yield f"categories that the bundle lacks count as unknown: {explained.ancestors_reason}"
