"""Checks of a ranking request against a bundle's schema and the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_stage.types import MAX_CANDIDATES
from store.errors import FieldError, InputError
from store.fields import NUMBER
from store.lists import MAX_LIST_VALUES, Lists
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_stage.config.schema import AnyField, Part, Schema
    from model_stage.types import RankRequest
    from store.fields import FieldColumn


def check_request(request: RankRequest, schema: Schema, now_s: float, max_clock_skew_s: float) -> None:
    """Checks a request.

    Args:
        request: The request.
        schema: Fields that there are.
        now_s: This machine's clock, seconds since the epoch.
        max_clock_skew_s: How far ahead of it the as-of time may be.

    Raises:
        InputError: The request breaks the contract; names the field.
    """
    count = len(request.candidates)
    if not 1 <= count <= MAX_CANDIDATES:
        raise InputError(f"candidates: expected 1 to {MAX_CANDIDATES}, got {count}")
    if request.user == NO_ID:
        raise InputError("user: 2**64 - 1 is reserved and no user")
    if request.as_of_ms <= 0:
        raise InputError(f"as_of_ms: must be positive, is {request.as_of_ms}")
    if request.as_of_ms > (now_s + max_clock_skew_s) * 1000:
        raise InputError(
            f"as_of_ms: {request.as_of_ms} is more than {max_clock_skew_s:g} s ahead of this server's clock"
        )
    _check_all_fields(request, schema)


def fits_schema(request: RankRequest, schema: Schema) -> bool:
    """Says whether a request's fields are those of a schema."""
    try:
        _check_all_fields(request, schema)
    except FieldError:
        return False
    return True


def _check_all_fields(request: RankRequest, schema: Schema) -> None:
    _check_fields("candidate", request.candidate_fields, schema, len(request.candidates))
    _check_fields("user", request.user_fields, schema, 1)
    _check_fields("context", request.context_fields, schema, 1)


def columns_of(targets: Sequence[str], names: Sequence[str]) -> list[int]:
    """Gives the columns of the targets that a request names, of all if it names none.

    Raises:
        InputError: There is no such target; names the field.
    """
    for at, name in enumerate(targets):
        if name not in names:
            raise InputError(f"targets[{at}]: unknown target {name!r}; this bundle has {', '.join(names)}")
    return [names.index(name) for name in targets or names]


def _check_fields(part: Part, given: Mapping[str, FieldColumn], schema: Schema, length: int) -> None:
    known = {f.name: f for f in schema.fields if f.part == part}
    for name, values in given.items():
        if name not in known:
            problem = f"no such {part} field; this bundle has {sorted(known)}"
        elif len(values) != length:
            problem = f"expected {length} values, got {len(values)}"
        else:
            problem = _problem(values, known[name])
        if problem:
            raise FieldError(f"{part}_fields[{name!r}]: {problem}", part, name)


def _problem(values: FieldColumn, field: AnyField) -> str:
    """Says why a column is none of a field; empty = it is one."""
    if not field.type.fits(values):
        what = f"lists of {values.values.dtype}" if isinstance(values, Lists) else f"{values.dtype} values"
        return f"{what} do not fit a {field.kind} field"
    if isinstance(values, Lists):
        if bool((values.values == np.uint64(NO_ID)).any()):
            return "2**64 - 1 is reserved and no id"
        longest = int(values.lengths.max(initial=0))
        return f"a list of {longest} values, at most {MAX_LIST_VALUES} are allowed" if longest > MAX_LIST_VALUES else ""
    return "every value must be finite" if field.type is NUMBER and bool(np.isinf(values).any()) else ""
