"""Keys and tokens of a service behind TLS: those that get in, and those that must not."""

from __future__ import annotations

import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context

import grpc
import trustme

from serving.options import ClientSecurity, ServeOptions
from serving.security.roles import Role
from serving.security.tokens import new_token

ROLES = tuple(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """PEM files of one CA, one server and one client of its own."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """What a server behind TLS and tokens is started with, and what its callers hold."""

    keys: Keys
    others: Keys
    """Of a CA that nobody here trusts."""
    tokens: Path
    by_role: dict[str, str]
    """A token for each role, one of none ("-"), and one of all ("all")."""
    expired: str

    def options(self, **others) -> ServeOptions:
        return ServeOptions(
            tls_cert=self.keys.server_cert,
            tls_key=self.keys.server_key,
            tls_client_ca=self.keys.ca,
            tokens=self.tokens,
            **others,
        )

    def arguments(self) -> list[str | Path]:
        """The same on a command line."""
        given = ("--tls-cert", self.keys.server_cert, "--tls-key", self.keys.server_key)
        return [*given, "--tls-client-ca", self.keys.ca, "--tokens", self.tokens]

    def client(self, role: str = "all") -> ClientSecurity:
        file = self.tokens.with_name(f"{role}.token")
        file.write_text(self.by_role[role] + "\n")
        return ClientSecurity(
            tls_ca=self.keys.ca, tls_cert=self.keys.client_cert, tls_key=self.keys.client_key, token_file=file
        )


def make_keys(folder: Path, client: str = "ads.example") -> Keys:
    folder.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA()
    keys = Keys(
        ca=folder / "ca.pem",
        server_cert=folder / "server.pem",
        server_key=folder / "server.key",
        client_cert=folder / "client.pem",
        client_key=folder / "client.key",
    )
    ca.cert_pem.write_to_path(keys.ca)
    write_pair(ca.issue_cert("localhost", "127.0.0.1"), keys.server_cert, keys.server_key)
    write_pair(ca.issue_cert(client, common_name=client), keys.client_cert, keys.client_key)
    return keys


def write_pair(issued: trustme.LeafCert, cert: Path, key: Path) -> None:
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)


def make_safe(folder: Path) -> Safe:
    keys, others = make_keys(folder / "keys"), make_keys(folder / "others")
    held, lines = {}, []
    for name, roles in (*((role, [role]) for role in ROLES), ("-", []), ("all", ROLES)):
        held[str(name)], credential = new_token(f"{name}.caller".replace("-.", "none."), roles, None)
        lines.append(credential.line())
    expired, credential = new_token("late", ROLES, time.time() - 1)
    lines.append(credential.line())
    tokens = folder / "tokens"
    tokens.write_text("\n".join(lines) + "\n")
    return Safe(keys=keys, others=others, tokens=tokens, by_role=held, expired=expired)


@contextmanager
def channel_of(port: int, ca: Path | None, cert: Path | None = None, key: Path | None = None, options=()):
    """A channel of its own over TLS; without `ca` one without TLS."""
    options = (("grpc.use_local_subchannel_pool", 1), *options)
    if ca is None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
    else:
        read = [None if path is None else path.read_bytes() for path in (ca, key, cert)]
        channel = grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(*read), options=options)
    with channel:
        yield channel


class _Showing(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, token):
        self._metadata = bearer(token)

    def intercept_unary_unary(self, continuation, client_call_details, request):
        asked = client_call_details
        details = grpc.ClientCallDetails()
        details.method, details.timeout, details.credentials = asked.method, asked.timeout, asked.credentials
        details.wait_for_ready, details.compression = asked.wait_for_ready, asked.compression
        details.metadata = (*(asked.metadata or ()), *self._metadata)
        return continuation(details, request)


def showing(channel, token):
    """The same channel, with a token on every call."""
    return grpc.intercept_channel(channel, _Showing(token))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def read_page(port: int, keys: Keys | None, token: str | None = None, *, client: bool = True) -> str:
    """The metrics page, over TLS where keys are given."""
    request = urllib.request.Request(f"http{'s' if keys else ''}://127.0.0.1:{port}/metrics")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    context = None
    if keys is not None:
        context = create_default_context(cafile=keys.ca)
        if client:
            context.load_cert_chain(keys.client_cert, keys.client_key)
    with urllib.request.urlopen(request, timeout=10, context=context) as page:
        return page.read().decode()
