"""What stands at the door of one process: its TLS and its gate, made of its options and watched together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from serving.security.gate import Gate
from serving.security.tls import ServerTls, TlsFiles
from serving.security.tokens import read_tokens
from serving.security.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from serving.options import ServeOptions
    from serving.security.tokens import Credential

SOON_S = 14 * 86_400.0
"""A token that ends sooner is worth a line in the log."""


@dataclass(frozen=True, slots=True)
class Door:
    """TLS and gate of one process."""

    tls: ServerTls | None
    """None = no encryption."""
    gate: Gate


def open_door(options: ServeOptions, registry: CollectorRegistry, log: FilteringBoundLogger) -> Door:
    """Reads certificates and tokens, and follows their files from then on.

    Args:
        options: Which files, and where the process listens.
        registry: Where to count.
        log: Gets a line for every change of a file, and for what is left open.

    Raises:
        InputError: A file cannot be used; names the option.
    """
    _shout(options, log)
    failures = Counter(
        "lookback_auth_failures",
        "Calls refused for want of a token or its role, by reason.",
        ("reason",),
        registry=registry,
    )
    return Door(
        tls=_open_tls(options, registry, log),
        gate=Gate(_open_tokens(options, registry, log), failures, mutual=options.tls_client_ca is not None),
    )


def _open_tls(options: ServeOptions, registry: CollectorRegistry, log: FilteringBoundLogger) -> ServerTls | None:
    if options.tls_cert is None or options.tls_key is None:
        return None
    reloads = Counter(
        "lookback_certificate_reloads", "Changes of the certificate's files, by result.", ("result",), registry=registry
    )
    files = TlsFiles(cert=options.tls_cert, key=options.tls_key, client_ca=options.tls_client_ca)
    tls = ServerTls(files, _noting(reloads, log, "certificate"))
    Gauge(
        "lookback_certificate_not_after_timestamp_seconds", "When the server's certificate ends.", registry=registry
    ).set_function(lambda: tls.certificate.not_after_s)
    return tls


def _open_tokens(
    options: ServeOptions, registry: CollectorRegistry, log: FilteringBoundLogger
) -> Watched[Mapping[str, Credential]] | None:
    path = options.tokens
    if path is None:
        return None
    reloads = Counter(
        "lookback_token_reloads", "Changes of the file of tokens, by result.", ("result",), registry=registry
    )

    def read() -> Mapping[str, Credential]:
        credentials = read_tokens(path)
        for each in credentials.values():
            if each.expires_s is not None and each.expires_s - time.time() < SOON_S:
                until = datetime.fromtimestamp(each.expires_s, UTC).isoformat()
                log.warning("token expires", token=each.id, token_caller=each.caller, until=until)
        return credentials

    return Watched([path], read, _noting(reloads, log, "tokens"))


def _noting(reloads: Counter, log: FilteringBoundLogger, what: str) -> Callable[[Exception | None], None]:
    def note(error: Exception | None) -> None:
        reloads.labels("swapped" if error is None else "refused").inc()
        if error is None:
            log.info(f"{what} changed")
        else:
            log.error(f"{what} refused", reason=str(error), serving="what was read before")

    return note


def _shout(options: ServeOptions, log: FilteringBoundLogger) -> None:
    if options.worker is not None or not options.insecure:  # of several workers their supervisor shouts
        return
    if options.exposed:
        log.warning(
            "INSECURE",
            host=options.host,
            problem=f"whoever reaches this host can read, write and delete: no {options.exposed}",
        )
    else:
        log.warning("--insecure changes nothing here: leave it out")
