"""What every command that draws needs: the library it draws with."""

from __future__ import annotations

from store.errors import StoreError


class MatplotlibMissingError(StoreError):
    """Plots need matplotlib; says what to install. No server raises it."""


def check_matplotlib() -> None:
    """Checks that a plot can be drawn, before the work that it is to show.

    Raises:
        MatplotlibMissingError: It cannot.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MatplotlibMissingError(
            f"a plot needs matplotlib ({error}); pip install 'lookback[report]', or leave out --plot"
        ) from error
