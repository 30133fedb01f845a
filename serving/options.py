"""How a server is to listen and how much it takes at once, and how a client knows it and is known."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from pathlib import Path

from serving.slot import WorkerSlot
from store.errors import InputError

MOST_REQUESTS = 1024
"""Each takes a thread while it runs or waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where to listen, who may come in, and how much to take.

    An address that others can reach needs TLS, and tokens or client certificates, unless `insecure` is spelled out.

    Raises:
        InputError: A host off the loopback without them and without `insecure`, half of a pair, or a number out of
            range; names the option.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free port."""
    metrics_port: int | None = None
    """Port of the Prometheus page on the same host; 0 = any free port, None = no page."""
    reflection: bool = False
    tls_cert: Path | None = None
    """PEM file of the server's certificate, and behind it those of its issuers; None = no encryption."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """PEM file of the certificates that clients are known by; None = they need none."""
    tokens: Path | None = None
    """File of the tokens that count (see `serving.security.tokens`); None = whoever gets in may do everything."""
    insecure: bool = False
    log_users: bool = False
    """Whether logs may name users."""
    port_file: Path | None = None
    """File to write the bound port to, once the server answers; removed when it ends."""
    max_running: int = 2
    max_waiting: int = 8
    grace_s: float = 10.0
    """Time that requests in flight get after SIGTERM."""
    watch_s: float = 0.0
    """Seconds from one look at what is published to the next; 0 = only an operator's `Reload` changes it."""
    trace: bool = False
    """Whether requests, their stages and the calls they make become spans of OpenTelemetry; needs the extra `trace`."""
    slow_ms: float = 0.0
    """Requests that take longer are logged with the time of each of their stages; 0 = none are."""
    warm_requests: Path | None = None
    """File of recorded requests that what is published has to answer before it serves; None = there is none."""
    worker: WorkerSlot | None = None
    """Where this process stands among the workers of a port; None = it serves alone."""

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("metrics-port", self.metrics_port or 0)):
            if not 0 <= port <= 65535:
                raise InputError(f"{name}: {port} is outside 0 .. 65535")
        for name, number, least in (("max-running", self.max_running, 1), ("max-waiting", self.max_waiting, 0)):
            if not least <= number <= MOST_REQUESTS:
                raise InputError(f"{name}: {number} is outside {least} .. {MOST_REQUESTS}")
        for name, seconds in (
            ("grace-seconds", self.grace_s),
            ("watch-seconds", self.watch_s),
            ("slow-ms", self.slow_ms),
        ):
            if not 0 <= seconds < math.inf:
                raise InputError(f"{name}: {seconds} is no length of time from 0 up")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("tls-cert: a certificate and its key go together: give tls-cert and tls-key, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise InputError("tls-client-ca: clients show certificates over TLS only: give tls-cert and tls-key too")
        if self.exposed and not self.insecure:
            raise InputError(
                f"host: {self.host} can be reached from other machines, and this server has no {self.exposed}; give "
                "tls-cert, tls-key and tokens (or tls-client-ca), listen on 127.0.0.1, or give --insecure to do it "
                "all the same"
            )

    @property
    def exposed(self) -> str:
        """What is missing for other machines to be let in; empty = nothing, or they cannot reach it."""
        if is_loopback(self.host):
            return ""
        missing = ["encryption"] if self.tls_cert is None else []
        missing += ["access control"] if self.tokens is None and self.tls_client_ca is None else []
        return " and no ".join(missing)

    def address(self, port: int) -> str:
        """Gives host and port as gRPC wants them written."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecurity:
    """How a client knows a server, and how the server knows the client.

    Raises:
        InputError: A certificate without its key, or without a CA to know the server by; names the option.
    """

    tls_ca: Path | None = None
    """PEM file of the certificates that servers are known by; None = no TLS."""
    tls_cert: Path | None = None
    """The client's own certificate, where the server asks for one."""
    tls_key: Path | None = None
    token_file: Path | None = None
    """File with nothing but the client's token; a command line would show it to everybody on the machine."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("tls-cert: a certificate and its key go together: give tls-cert and tls-key, or neither")
        if self.tls_cert is not None and self.tls_ca is None:
            raise InputError("tls-cert: there is no TLS without tls-ca, the certificates that the server is known by")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are given."""
        given = (self.tls_ca, self.tls_cert, self.tls_key, self.token_file)
        return tuple(path for path in given if path is not None)


PLAIN = ClientSecurity()
"""Neither TLS nor a token."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than "localhost" counts as reachable by others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def stays_here(address: str) -> bool:
    """Whether a client's address, host and port or a socket, is of this machine."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0].strip("[]"))
