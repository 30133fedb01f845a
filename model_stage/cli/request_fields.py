"""Fields of a request from a JSON file: `{"candidate": {...}, "user": {...}, "context": {...}}`, each by name.

The JSON type of a value decides its kind: a number is a number, a string an id as it stands in the input, a list of
strings a list of ids. Whether the bundle has such fields, and of these kinds, is checked by the ranker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.files.json_text import parse_json
from store.lists import Lists
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from store.fields import FieldColumn

PARTS = ("candidate", "user", "context")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFields:
    """Fields of a request for one candidate: columns of length 1 by name."""

    candidate: Mapping[str, FieldColumn] = field(default_factory=dict)
    user: Mapping[str, FieldColumn] = field(default_factory=dict)
    context: Mapping[str, FieldColumn] = field(default_factory=dict)


def read_request_fields(path: Path) -> RequestFields:
    """Reads the fields of a request for one candidate.

    Raises:
        InputError: The file cannot be read, is no JSON object of parts and fields, has a key twice, or a value is no
            number, id or list of ids; names file and key.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc}") from exc
    except InputError as exc:
        raise InputError(f"{path}: {exc}") from exc
    parts = _object(str(path), content)
    for part in parts:
        if part not in PARTS:
            raise InputError(f"{path}: {part}: is no part of a request; the parts are {', '.join(PARTS)}")
    columns = {
        part: {
            name: _column(f"{path}: {part}.{name}", value) for name, value in _object(f"{path}: {part}", fields).items()
        }
        for part, fields in parts.items()
    }
    return RequestFields(**columns)


def _object(where: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object, is {json.dumps(value)[:40]}")
    return value


def _column(where: str, value: object) -> FieldColumn:
    match value:
        case str():
            return np.array([parse_id(value, where)], np.uint64)
        case list() if all(isinstance(each, str) for each in value):
            ids = np.array([parse_id(each, where) for each in value], np.uint64)
            return Lists(values=ids, offsets=np.array([0, len(ids)], np.int64))
        case int() | float() if not isinstance(value, bool) and abs(value) <= _LARGEST:
            return np.array([value], np.float32)
        case _:
            raise InputError(
                f"{where}: must be a finite number, a string (an id) or a list of strings (ids), is "
                f"{json.dumps(value)[:40]}"
            )
