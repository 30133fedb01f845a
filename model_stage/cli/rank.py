"""The command that asks a ranking service: `rank`."""

from __future__ import annotations

from typing import Annotated

import typer

from model_stage.cli.request import FieldsOption, name_fields_file, request_of
from model_stage.cli.tables import difference_lines, explanation_table, ranking_table
from serving import ClientSecurity
from serving.command import client_options
from serving.deadline import Deadline
from store.command import AsOfOption, UserOption
from store.terminal import say


@client_options()
def rank(
    user: UserOption,
    candidate: Annotated[list[str], typer.Option(help="Ad id, as it stands in the input; may be repeated.")],
    security: ClientSecurity,
    server: Annotated[str, typer.Option(help="host:port of the ranking service.")] = "127.0.0.1:50052",
    as_of: AsOfOption = None,
    fields: FieldsOption = None,
    deadline_s: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 1.0,
) -> None:
    """Ask a running ranking service for probabilities, and for what stands behind the best candidate."""
    from model_stage.serving.rank_client import RankClient

    request = request_of(user, candidate, as_of, fields)
    with RankClient(server, security) as client, name_fields_file(fields):
        result = client.rank(request, Deadline.after(deadline_s))
        say(ranking_table(result, candidate), *difference_lines(result.search_differences))
        if not result.degraded:
            best = int(result.probability[:, 0].argmax())
            say(explanation_table(client.explain(request, best, Deadline.after(deadline_s))))
