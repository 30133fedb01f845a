"""The client's side: whom it trusts, and how it shows who it is. Files that change are followed."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from serving.options import PLAIN, stays_here
from serving.security.watched import Watched
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from serving.options import ClientSecurity

S = TypeVar("S")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the files of a client hold at one time."""

    tls: tuple[bytes, bytes | None, bytes | None] | None
    """CA, key and certificate; None = no TLS."""
    metadata: Metadata
    """To send with every call."""


def read_secrets(security: ClientSecurity) -> Secrets:
    """Reads the files of a client.

    Raises:
        InputError: One cannot be read, or holds no token; names it.
    """
    tls = None
    if security.tls_ca is not None:
        key = None if security.tls_key is None else _read("tls-key", security.tls_key)
        cert = None if security.tls_cert is None else _read("tls-cert", security.tls_cert)
        tls = (_read("tls-ca", security.tls_ca), key, cert)
    if security.token_file is None:
        return Secrets(tls, ())
    token = _read("token-file", security.token_file).decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"token-file: {security.token_file} must hold a token and nothing else")
    return Secrets(tls, (("authorization", f"Bearer {token}"),))


class Channels(Generic[S]):
    """Connections to one address, used in turn, and made anew when the client's certificates change. Thread-safe.

    A channel connects with its first call and again by itself. Of those that were replaced the last calls go on.
    """

    def __init__(
        self,
        address: str,
        make_stub: Callable[[grpc.Channel], S],
        security: ClientSecurity = PLAIN,
        *,
        options: Sequence[tuple[str, Any]] = (),
        count: int = 1,
        library: ModuleType = grpc,
    ) -> None:
        """Opens channels; making them never fails because of the server.

        Args:
            address: Host and port.
            make_stub: Makes what calls methods over a channel.
            security: How to know the server, and how to be known.
            options: Of every channel.
            count: Number of channels.
            library: What makes them, `grpc` or `grpc.aio`.

        Raises:
            InputError: A file of the security cannot be used, or the token would travel unencrypted to another machine.
        """
        if security.token_file is not None and security.tls_ca is None and not stays_here(address):
            raise InputError(
                f"token-file: without encryption everybody on the way to {address} could read the token; give tls-ca"
            )
        self.address = address
        self._make_stub = make_stub
        self._options = tuple(options)
        self._count = count
        self._library: Any = library
        self._watched = Watched(security.paths, lambda: read_secrets(security))
        self._lock = threading.Lock()
        self._replaced: list[Any] = []
        self._channels: list[Any] = []
        self._tls: object = None
        self._stubs: Iterator[S] = iter(())
        self._open(self._watched.get())

    def next(self) -> tuple[S, Metadata]:
        """Gives what calls over the next channel, and the metadata to send with the call."""
        secrets = self._watched.get()
        if secrets.tls != self._tls:
            with self._lock:
                if secrets.tls != self._tls:
                    self._open(secrets)
        return next(self._stubs), secrets.metadata

    async def aclose(self) -> None:
        """Closes channels of `grpc.aio`; calls in flight are cancelled. Closing again does nothing."""
        for channel in (*self._replaced, *self._channels):
            await channel.close()

    def close(self) -> None:
        """Closes the channels; calls in flight end as unavailable. Closing again does nothing."""
        with self._lock:
            for channel in (*self._replaced, *self._channels):
                channel.close()

    def _open(self, secrets: Secrets) -> None:
        if self._library is grpc:
            for channel in self._replaced:  # two changes ago: nothing is left of its calls
                channel.close()
            self._replaced = self._channels
        else:  # nothing can be awaited here: they are closed at the end
            self._replaced += self._channels
        self._channels = [self._channel(secrets) for _ in range(self._count)]
        self._stubs = itertools.cycle([self._make_stub(channel) for channel in self._channels])
        self._tls = secrets.tls

    def _channel(self, secrets: Secrets) -> object:
        if secrets.tls is None:
            return self._library.insecure_channel(self.address, options=self._options)
        credentials = grpc.ssl_channel_credentials(*secrets.tls)
        return self._library.secure_channel(self.address, credentials, options=self._options)


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"{name}: {path}: {exc.strerror}") from exc
