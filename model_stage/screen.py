"""Where commands print their tables."""

from __future__ import annotations

import os

from rich.console import Console

_WIDTH = 140
"""Columns of a file or a pipe, where `COLUMNS` does not say."""


def screen() -> Console:
    """Gives the console: as wide as the terminal, and wide enough for a table where there is none."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH)
