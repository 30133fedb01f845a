"""How a process of search that must end says why. A worker needs nothing else of the command line."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from search_stage.errors import InvalidRequestError, SearchError
from store.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def told() -> Iterator[None]:
    """Ends the process on a known error with one line; exit code 2 = the call is wrong, 1 = what it works on is."""
    try:
        yield
    except (SearchError, StoreError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, InvalidRequestError | InputError) else 1)
