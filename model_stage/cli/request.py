"""A request as the command line asks it: a user and candidates by name, fields from a file."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from model_stage.cli.request_fields import RequestFields, read_request_fields
from model_stage.types import RankRequest
from store.errors import FieldError, InputError
from store.retrieval import Candidates
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from store.fields import FieldColumn

FieldsOption = Annotated[
    Path | None, typer.Option(help="JSON file of candidate, user and context fields; see docs/explain.md.")
]


def request_of(
    user: str, candidates: Sequence[str], as_of_ms: int | None, fields: Path | None, targets: Sequence[str] = ()
) -> RankRequest:
    """Gives the request that the options of a command ask for.

    Args:
        user: Name of the user.
        candidates: Names of the ads.
        as_of_ms: As-of time, milliseconds UTC; None = now.
        fields: File of fields; every candidate gets those of its "candidate" part. None = no fields.
        targets: Names; none = all.

    Raises:
        InputError: A name is no id, or the file is not one of fields.
    """
    given = RequestFields() if fields is None else read_request_fields(fields)
    return RankRequest(
        user=parse_id(user, "--user"),
        as_of_ms=as_of_ms if as_of_ms is not None else time.time_ns() // 1_000_000,
        candidates=Candidates.by_id(np.array([parse_id(name, "--candidate") for name in candidates], np.uint64)),
        targets=tuple(targets),
        candidate_fields=_for_each(given.candidate, len(candidates)),
        user_fields=given.user,
        context_fields=given.context,
    )


@contextmanager
def name_fields_file(fields: Path | None) -> Iterator[None]:
    """Puts the name of the file before the ranker's refusal of one of its fields."""
    try:
        yield
    except FieldError as exc:
        raise InputError(f"{fields}: {exc}") from exc


def _for_each(columns: Mapping[str, FieldColumn], count: int) -> dict[str, FieldColumn]:
    rows = np.zeros(count, np.int64)
    return {name: column[rows] for name, column in columns.items()}
