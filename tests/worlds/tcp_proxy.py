"""A small TCP proxy between a client and a server, that can slow, hold, drop and reset what passes."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from enum import Enum
from typing import Self

CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends RST."""


class Weather(Enum):
    """What becomes of what passes."""

    FINE = "fine"
    SLOW = "slow"
    """Every piece is held for `delay_s`, both ways."""
    HOLE = "black hole"
    """Connections are taken, and nothing passes; what came meanwhile passes when it is fine again."""
    RESET = "reset"
    """Every connection is reset with its first byte."""


class TcpProxy:
    """Listens on the loopback and passes on to a port of it; a context manager."""

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self._to = ("127.0.0.1", port)
        self.delay_s = delay_s
        self.weather = Weather.FINE
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        """Resets every connection that is open."""
        for each in list(self._open):
            self._reset(each)

    def _start(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to, 5)
            except OSError:
                continue
            far.settimeout(None)
            self._open |= {near, far}
            self._start(self._pass, near, far)
            self._start(self._pass, far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if self.weather is Weather.RESET:
                    self._reset(source)
                    break
                if self.weather is Weather.SLOW:
                    time.sleep(self.delay_s)
                while self.weather is Weather.HOLE and not self._ended.is_set():
                    time.sleep(0.005)
                sink.sendall(data)
        for each in (source, sink):
            self._open.discard(each)
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @staticmethod
    def _reset(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
