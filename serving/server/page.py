"""The Prometheus page of a process."""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

    from serving.security.gate import Gate
    from serving.security.tls import ServerTls

_PATIENCE_S = 10
"""For a client's handshake and its request."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    tls: ServerTls | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is None:
            return connection, address
        # The handshake comes with the first byte that is read, in the thread of the connection.
        context = self.tls.certificate.context
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: whoever hangs up in the middle, or comes without a certificate, is no fault of this process."""


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def open_page(
    host: str, port: int, registry: CollectorRegistry, tls: ServerTls | None = None, gate: Gate | None = None
) -> tuple[int, Callable[[], None]]:
    """Serves a registry's metrics over HTTP, in a thread of its own.

    Args:
        host: Address to listen on.
        port: 0 = any free one.
        registry: What to show.
        tls: Certificate, and whose clients are let in; None = no encryption.
        gate: Who may see it, by token; None = whoever gets in.

    Returns:
        The port, and what closes the page.

    Raises:
        InputError: The port is taken.
    """
    show: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if gate is not None and not gate.admit_header(environ.get("HTTP_AUTHORIZATION", "")):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"a token is needed: Authorization: Bearer TOKEN\n"]
        return show(environ, start_response)

    try:
        family, _, _, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        kind = type("Server", (_Server,), {"address_family": family, "tls": tls})
        page: WSGIServer = make_server(host, port, answer, kind, _Handler)
    except OSError as exc:
        raise InputError(f"metrics-port: cannot listen on {host}, port {port}: {exc.strerror}") from exc
    thread = threading.Thread(target=page.serve_forever, name="metrics", daemon=True)
    thread.start()

    def close() -> None:
        page.shutdown()
        page.server_close()
        thread.join()

    return page.server_port, close
