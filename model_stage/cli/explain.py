"""`lookback-model explain`: what stands behind one candidate's probabilities, in this process or of a server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model_stage.cli.request import AsOfOption, FieldsOption, UserOption, naming, request_of
from model_stage.json_file import write_json
from serving.deadline import Deadline
from store.plotting import check_matplotlib
from store.screen import screen

if TYPE_CHECKING:
    from model_stage.types import ExplainResult, RankRequest


def explain_command(
    user: UserOption,
    candidate: Annotated[str, typer.Option(help="Ad id, as it stands in the input.")],
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    as_of: AsOfOption = None,
    fields: FieldsOption = None,
    server: Annotated[
        str | None, typer.Option(help="host:port of the ranking service to ask; else in process.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="In process: root of the behavior store.")] = None,
    index: Annotated[
        Path | None, typer.Option(help="In process: root of the index; without it no soft search.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="In process: root of model bundles.")] = None,
    search_config: Annotated[Path | None, typer.Option(help="In process: search.yaml; default: packaged.")] = None,
    deadline_s: Annotated[float, typer.Option(help="Seconds to wait for a server's answer.")] = 10.0,
    rows: Annotated[int, typer.Option(min=1, help="Behaviors to show; the JSON has them all.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all of it here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw; needs the extra `report`.")] = None,
) -> None:
    """Say why a candidate scores as it does: behaviors, attention, what each part of the input adds."""
    from model_stage.evaluation.tables import attention_lines, contribution_table, explanation_table
    from model_stage.inspection.plot import plot_explanation

    if plot is not None:
        check_matplotlib()
    request = request_of(user, [candidate], as_of, fields, target or ())
    with naming(fields):
        if server is not None:
            explained = _ask(server, request, deadline_s)
        elif store is not None and bundle is not None:
            explained = _explain_here(store, index, bundle, search_config, request)
        else:
            raise typer.BadParameter("give --server, or --store and --bundle", param_hint="--server")
    console = screen()
    console.print(explanation_table(explained, rows, scores=True))
    console.print(contribution_table(explained))
    for line in attention_lines(explained):
        console.print(line, markup=False, highlight=False)
    versions = explained.versions
    console.print(
        f"store {versions.store_generation}, index {versions.index_generation or 'none'}, bundle {versions.bundle}"
    )
    if explained.ancestors_reason:
        console.print(f"categories that the bundle lacks count as unknown: {explained.ancestors_reason}", markup=False)
    write_json(json_file, _content(explained, user, request))
    if plot is not None:
        plot_explanation(plot, explained, request.as_of_ms)


def _ask(server: str, request: RankRequest, deadline_s: float) -> ExplainResult:
    from model_stage.serving.rank_client import RankClient

    with RankClient(server) as client:
        return client.explain(request, 0, Deadline.after(deadline_s))


def _explain_here(
    store: Path, index: Path | None, bundle: Path, search_config: Path | None, request: RankRequest
) -> ExplainResult:
    from model_stage.cli.search import open_searcher
    from model_stage.ranking.ranker import Ranker

    with open_searcher(store, index, search_config) as (_, retriever):
        return Ranker.load(bundle, retriever).explain(request)


def _content(explained: ExplainResult, user: str, request: RankRequest) -> dict[str, Any]:
    return {"user": user, "as_of_ms": request.as_of_ms, **asdict(explained), "attention_sums": explained.attention_sums}
