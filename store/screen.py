"""Where the commands print their tables."""

from __future__ import annotations

import os

from rich.console import Console

_WIDTH = 160
"""Columns of a file or a pipe, where `COLUMNS` does not say."""


def screen(*, soft_wrap: bool = False) -> Console:
    """Gives the console: as wide as the terminal, and wide enough for a table where there is none.

    Args:
        soft_wrap: Leave lines of text that are too long to the terminal.
    """
    console = Console(soft_wrap=soft_wrap)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDTH, soft_wrap=soft_wrap)
