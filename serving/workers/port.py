"""One port for several processes: reserved by their supervisor, listened on by each of them."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.options import ServeOptions


@contextmanager
def reserved_port(options: ServeOptions) -> Iterator[int]:
    """Keeps a port for the workers for the time of the block, also while none of them listens; gives its number.

    The socket is bound and does not listen: the kernel gives connections to the workers only.

    Raises:
        InputError: The port is taken, or the host is none of this machine.
    """
    where = options.address(options.port)
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            # Without SO_REUSEPORT this fails where somebody else listens, also another server of several workers.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
        held = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise InputError(f"port: cannot listen on {where}: {exc.strerror}; is it taken?") from exc
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
        except OSError as exc:
            raise InputError(f"port: cannot listen on {where}: {exc.strerror}; is it taken?") from exc
        yield held.getsockname()[1]
