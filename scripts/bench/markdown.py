"""Pieces of Markdown that the dated reports are made of."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH = 120


def paragraph(*sentences: str, indent: str = "") -> str:
    """Gives sentences as one filled paragraph, every line but the first indented."""
    return textwrap.fill(
        " ".join(sentences), _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def markdown_table(names: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Gives a table with a head line."""
    head = tuple(names)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def formatted(columns: Mapping[str, str], rows: Iterable[object]) -> list[list[str]]:
    """Gives the cells of rows, by the format of each column, in which `row` is the row."""
    return [[form.format(row=row) for form in columns.values()] for row in rows]


def rows_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> str:
    """Gives rows of named numbers as a table, under names of its own or the rows'."""
    return markdown_table(names or tuple(rows[0]), [cells(row) for row in rows])


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the values of a row as people read them."""
    return tuple(_cell(name, value) for name, value in row.items())


def _cell(name: str, value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if "change" in name:
        return f"{value:+.1%}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:,.2f}"
