"""Pieces of Markdown that the dated reports are made of."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 120


def paragraph(*sentences: str, indent: str = "") -> str:
    """Gives sentences as one filled paragraph, every line but the first indented."""
    return textwrap.fill(
        " ".join(sentences), _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def markdown_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Gives a table with a head line."""
    lines = [names, ("---",) * len(names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
