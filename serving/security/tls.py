"""A server's certificate and key, and whose clients it takes: for gRPC and for HTTP, changed while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from serving.security.watched import Watched
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TURNS = 10
"""More than a handshake has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a server's certificate and key stand, and the CA of its clients: PEM files."""

    cert: Path
    """The certificate, and behind it those of its issuers as far as clients do not have them."""
    key: Path
    client_ca: Path | None
    """Certificates whose clients are let in; None = a client needs no certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the files hold at one time, found to belong together."""

    cert: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext
    """For HTTP."""
    not_after_s: float
    """Seconds since 1970 at which the certificate ends."""


class ServerTls:
    """TLS of one process. Thread-safe; new connections see a new certificate, old ones go on."""

    def __init__(self, files: TlsFiles, on_change: Callable[[Exception | None], object] = lambda error: None) -> None:
        """Reads the files.

        Args:
            files: Where they stand.
            on_change: Told of every change of the files: None, or why the new ones were refused and the old ones stay.

        Raises:
            InputError: One cannot be read or used; names it.
        """
        self._mutual = files.client_ca is not None
        paths = [path for path in (files.cert, files.key, files.client_ca) if path is not None]
        self._watched = Watched(paths, lambda: read_certificate(files), on_change, every_s=0.0)

    @property
    def certificate(self) -> Certificate:
        """What the files hold."""
        return self._watched.get()

    def credentials(self) -> grpc.ServerCredentials:
        """Gives what a gRPC server needs; it asks for the certificate at every new connection."""
        given = self.certificate

        def changed() -> Any:  # noqa: ANN401 (a configuration, or None for no change; the stubs know no None)
            nonlocal given
            current = self.certificate
            if current is given:
                return None
            given = current
            return _configuration(current)

        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            _configuration(given), changed, require_client_authentication=self._mutual
        )
        return credentials


def read_certificate(files: TlsFiles) -> Certificate:
    """Reads certificate, key and CA, and tries them.

    Raises:
        InputError: One cannot be read or used; names it.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name, path in (("tls-cert", files.cert), ("tls-key", files.key)):
        _read(name, path)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (ssl.SSLError, ValueError) as exc:
        raise InputError(f"tls-cert: {files.cert} and {files.key} are no certificate and its key: {_why(exc)}") from exc
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read("tls-client-ca", files.client_ca)
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as exc:
            raise InputError(f"tls-client-ca: {files.client_ca} holds no certificates: {_why(exc)}") from exc
        context.verify_mode = ssl.CERT_REQUIRED
    return Certificate(
        cert=_read("tls-cert", files.cert),
        key=_read("tls-key", files.key),
        client_ca=client_ca,
        context=context,
        not_after_s=_not_after_s(files),
    )


def _not_after_s(files: TlsFiles) -> float:
    """Gives when a certificate ends, from a handshake within this process in which it is trusted as it is.

    Raises:
        InputError: It is not valid now.
    """
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(files.cert, files.key, password=_no_password)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(files.cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True))
    for _ in range(_TURNS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as exc:
                raise InputError(f"tls-cert: {files.cert} is of no use now: {_why(exc)}") from exc
    about = ends[0].getpeercert()
    assert about is not None
    return float(ssl.cert_time_to_seconds(str(about["notAfter"])))


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.cert)], certificate.client_ca
    )
    return configuration


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"{name}: {path}: {exc.strerror}") from exc


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password, readable by this user only")


def _why(exc: Exception) -> str:
    """Says what a library of TLS complains of, without the name of its file."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    return (exc.reason or "cannot be read").lower().replace("_", " ") if isinstance(exc, ssl.SSLError) else str(exc)
