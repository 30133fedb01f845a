"""What is odd about an input without being wrong: counted by kind, with its first example, and told once."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from store.dataset.batch import Batch
    from store.types import I64

YEAR_2000_MS = 946_684_800_000
"""A time before it is more likely in a wrong unit than true."""
_YEAR_2100_S = 4_102_444_800

TABLES = ("behaviors", "taxonomy", "bridges", "items", "users", "impressions")
NULL_WORDS = frozenset(("nan", "null", "none", "nil", "na", "n/a", "#n/a", "<na>", "nat", "undefined", "\\n", "-"))
_FLOAT = re.compile(r"-?[0-9]+\.0*|-?[0-9](\.[0-9]+)?[eE]\+?[0-9]+")
_PADDED = re.compile(r"\+[0-9]+|0+[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """One kind of oddity."""

    what: str
    """Names file and column first."""
    example: str
    """The first one."""
    count: int

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}, such as {self.example}"


class Oddities:
    """Collects oddities by what they are."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    def note(self, what: str, example: str, count: int = 1) -> None:
        """Counts one kind of oddity; its first example stays."""
        first, known = self._found.get(what, (example, 0))
        self._found[what] = first, known + count

    def add(self, others: Iterable[Oddity]) -> None:
        """Adds what was found elsewhere."""
        for each in others:
            self.note(each.what, each.example, each.count)

    def found(self) -> tuple[Oddity, ...]:
        """Gives them in the order in which they were first met."""
        return tuple(Oddity(what=what, example=first, count=count) for what, (first, count) in self._found.items())

    def note_id(self, label: str, text: str) -> None:
        """Looks at a string that was not known before and is an id: any string is one, also what others mean by none.

        Args:
            label: File and column.
            text: The string.
        """
        what = ""
        if text.lower() in NULL_WORDS:
            what = "words for a missing value, taken as ids (leave the value empty)"
        elif text[0].isalpha() and text.isascii() and not text[-1].isspace():
            return  # nearly all of them
        elif text != text.strip():
            what = "ids with a space at their start or end"
        elif _FLOAT.fullmatch(text) is not None:
            what = "numbers as floating-point columns are written, taken as names"
        elif _PADDED.fullmatch(text) is not None:
            what = "numbers with a sign or leading zeros, taken as names"
        elif not unicodedata.is_normalized("NFC", text):
            what = "ids that are not in normal form NFC"
        if what:
            self.note(f"{label}: {what}", repr(text))

    def note_times(self, batch: Batch, name: str, times: I64) -> None:
        """Looks at times, milliseconds UTC. (N,)."""
        early = np.flatnonzero((times < YEAR_2000_MS) & batch.check.good())
        if len(early):
            first = int(early[0])
            value = int(times[first])
            example = f"line {batch.lines[first]}: {value} is {date_text(value)}{seconds_hint(value)}"
            self.note(f"{batch.file}: {name}: times before 2000", example, len(early))


def date_text(time_ms: int) -> str:
    """Gives the day of a time."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"


def seconds_hint(time_ms: int) -> str:
    """Says that a time before 2000 would be a likely one in seconds; empty = it would not."""
    in_seconds = YEAR_2000_MS // 1000 <= time_ms < _YEAR_2100_S
    return (
        f"; it is {date_text(time_ms * 1000)} if it counts seconds, and must be in milliseconds" if in_seconds else ""
    )


def misspelt_tables(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Gives what stands in a dataset folder under nearly the name of a table, and is ignored."""
    out = []
    for path in sorted(folder.iterdir()):
        lower = path.name.lower()
        stem = lower.split(".", 1)[0]
        near = get_close_matches(stem, TABLES, n=1, cutoff=0.8)
        if path.is_dir() and near:
            out.append(f"{path.name}: a folder, which is ignored; its files must stand beside the other tables")
        elif near and lower.endswith(suffixes) and not _is_read(path.name, suffixes):
            wanted = f"{near[0]}{lower[len(stem) :]}"
            out.append(f"{path.name}: is no table and ignored; is it meant to be {wanted}?")
    return out


def _is_read(name: str, suffixes: tuple[str, ...]) -> bool:
    many = name.startswith(("behaviors", "impressions")) and name.endswith(suffixes)
    return many or name in {table + suffix for table in TABLES for suffix in suffixes}
