"""JSON objects with the columns of behaviors (docs/data.md) as a batch of events; a bad one spoils only itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from store.errors import InputError
from store.events import EventBatch
from store.fields import VALUE_TYPES, ValueColumn
from store.files.json_text import parse_json
from store.types import MAX_TIMESTAMP_MS, NEGATIVE_INTEGER, NO_ID, encoded, parse_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.fields import FieldKind, FieldKinds
    from store.types import NameKind

_COLUMNS = frozenset(("user", "item", "category", "domain", "action", "scene", "timestamp_ms", "event_id"))
_NAMES_A_THING = ("user", "item", "category")
_LARGEST_NUMBER = float(np.finfo(np.float32).max)


def parse_rows(rows: Sequence[object], kinds: FieldKinds | None = None) -> EventBatch:
    """Gives JSON objects as a batch. An object that breaks the contract is a refused row of it.

    Args:
        rows: What a JSON reader made of each line.
        kinds: The store's side-info fields, so that another one is refused; None = take any, of ids where the first
            value that is there is a string, else of numbers.
    """
    parser = _Parser(len(rows), kinds)
    for at, row in enumerate(rows):
        try:
            parser.take(at, row)
        except InputError as exc:
            parser.refused[at] = str(exc)
    return parser.batch()


def parse_lines(lines: Sequence[bytes], kinds: FieldKinds | None = None) -> EventBatch:
    """Gives lines of JSON as a batch, see `parse_rows`. A line that is no JSON is a refused row, too."""
    rows: list[object] = []
    broken: dict[int, str] = {}
    for at, line in enumerate(lines):
        try:
            rows.append(parse_json(line))
        except InputError as exc:
            rows.append(None)
            broken[at] = f"the line {exc}"
    batch = parse_rows(rows, kinds)
    return replace(batch, refused={**batch.refused, **broken})


class _Parser:
    """Takes rows, and keeps their columns as lists."""

    def __init__(self, num_rows: int, kinds: FieldKinds | None) -> None:
        self._num_rows = num_rows
        self._ids = {name: [NO_ID] * num_rows for name in ("user", "item", "category", "event_id")}
        self._words = {name: [""] * num_rows for name in ("domain", "action", "scene")}
        self._times = [0] * num_rows
        self._kinds: dict[str, FieldKind] = dict(kinds or ())
        self._takes_any = kinds is None
        self._fields: dict[str, ValueColumn] = {}
        self._parsed: dict[str, int] = {}
        self._names: dict[NameKind, dict[int, str]] = {"user": {}, "item": {}, "category": {}, "value": {}}
        self.refused: dict[int, str] = {}

    def take(self, at: int, row: object) -> None:
        """Takes one row.

        Raises:
            InputError: It breaks the contract; the message starts with the name of the column.
        """
        if not isinstance(row, dict):
            raise InputError("the row is no JSON object")
        user = self._id("user", row.get("user"), "user", required=True)
        item = self._id("item", row.get("item"), "item", required=True)
        category = self._id("category", row.get("category"), "category")
        key = self._id("event_id", row.get("event_id"), None)
        time = _time(row.get("timestamp_ms"))
        words = [(name, _word(name, row.get(name), required=name != "scene")) for name in self._words]
        further = {name: self._value(name, value) for name, value in row.items() if name not in _COLUMNS}
        for name, value in (("user", user), ("item", item), ("category", category), ("event_id", key)):
            self._ids[name][at] = value
        for name, word in words:
            self._words[name][at] = word
        self._times[at] = time
        for name, number in further.items():
            if number is not None:
                self._field(name)[at] = number

    def batch(self) -> EventBatch:
        """Gives the rows taken."""
        return EventBatch(
            user=np.array(self._ids["user"], np.uint64),
            item=np.array(self._ids["item"], np.uint64),
            category=np.array(self._ids["category"], np.uint64),
            timestamp_ms=np.array(self._times, np.int64),
            domain=self._words["domain"],
            action=self._words["action"],
            scene=self._words["scene"],
            key=np.array(self._ids["event_id"], np.uint64),
            fields=self._fields,
            names=self._names,
            refused=self.refused,
        )

    def _id(self, name: str, value: object, kind: NameKind | None, *, required: bool = False) -> int:
        if type(value) is int:
            return parse_id(value, name)
        if isinstance(value, str):
            return self._parse(name, value, kind)
        if value is None and not required:
            return NO_ID
        raise InputError(f"{name}: missing" if value is None else f"{name}: {value!r} is no id")

    def _parse(self, name: str, text: str, kind: NameKind | None) -> int:
        if kind in _NAMES_A_THING and NEGATIVE_INTEGER.fullmatch(text):
            raise InputError(f"{name}: {text!r} is no id")
        key = self._parsed.get(text)
        if key is None:
            key = self._parsed[text] = parse_id(text, name)
        if kind is not None and str(key) != text and self._names[kind].setdefault(key, text) != text:
            raise InputError(f"{name}: {text!r} and {self._names[kind][key]!r} have the same 64-bit hash; rename one")
        return key

    def _value(self, name: str, value: object) -> int | float | None:
        if value is None:
            return None
        kind = self._kinds.get(name)
        if kind is None:
            if not self._takes_any:
                raise InputError(f"{name}: is no column of this store's behaviors")
            encoded(name, "the name of a column")
            kind = self._kinds[name] = "id" if isinstance(value, str) else "number"
        if kind == "id":
            return self._id(name, value, "value")
        if not isinstance(value, int | float):
            raise InputError(f"{name}: {value!r} is no number")
        if abs(value) > _LARGEST_NUMBER:
            raise InputError(f"{name}: {value} is no finite float32")
        return value

    def _field(self, name: str) -> ValueColumn:
        column = self._fields.get(name)
        if column is None:
            column = self._fields[name] = VALUE_TYPES[self._kinds[name]].missing(self._num_rows)
        return column


def _time(value: object) -> int:
    if type(value) is not int:
        raise InputError("timestamp_ms: missing" if value is None else f"timestamp_ms: {value!r} is no integer")
    if not 0 <= value <= MAX_TIMESTAMP_MS:
        raise InputError(f"timestamp_ms: {value} is outside 0 .. {MAX_TIMESTAMP_MS} (milliseconds UTC)")
    return value


def _word(name: str, value: object, *, required: bool) -> str:
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise InputError(f"{name}: {value!r} is no string")
    if required and not value:
        raise InputError(f"{name}: missing")
    if not value.isascii():
        encoded(value, name)
    return value
