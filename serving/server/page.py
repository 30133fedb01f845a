"""The Prometheus page of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry


def open_page(host: str, port: int, registry: CollectorRegistry) -> tuple[int, Callable[[], None]]:
    """Serves a registry's metrics over HTTP, in a thread of its own.

    Args:
        host: Address to listen on.
        port: 0 = any free one.
        registry: What to show.

    Returns:
        The port, and what closes the page.

    Raises:
        InputError: The port is taken.
    """
    try:
        page, thread = start_http_server(port, host, registry)
    except OSError as exc:
        raise InputError(f"metrics-port: cannot listen on {host}, port {port}: {exc.strerror}") from exc

    def close() -> None:
        page.shutdown()
        page.server_close()
        thread.join()

    return page.server_port, close
