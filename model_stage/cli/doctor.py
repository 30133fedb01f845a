"""The command `doctor`: what is wrong with an installation, and the command that mends it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from model_stage.cli.checkup import (
    Installation,
    check_certificates,
    check_clock,
    check_disk,
    check_limits,
    check_ports,
    check_versions,
)
from model_stage.cli.fitting import check_artefacts, check_services
from serving import ClientSecurity
from serving.command import client_options
from store.command import ConfigOption, JsonOption
from store.terminal import show_report, table


@client_options("security", "client-")
def doctor(
    security: ClientSecurity,
    store: Annotated[Path | None, typer.Option(help="Root of the behavior store.")] = None,
    index: Annotated[Path | None, typer.Option(help="Root of the index.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Root of model bundles.")] = None,
    config: ConfigOption = None,
    search: Annotated[str | None, typer.Option(help="host:port of a running search service.")] = None,
    server: Annotated[str | None, typer.Option(help="host:port of a running ranking service.")] = None,
    port: Annotated[
        list[int] | None, typer.Option(help="Port that a service is to listen on; may be repeated.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of a server's certificate; needs --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM file of the CAs of its clients.")] = None,
    tokens: Annotated[Path | None, typer.Option(help="File of the tokens that count.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Check an installation; exit status 1 where something is wrong, with the command that mends it."""
    from serving.security.tls import TlsFiles

    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("a certificate and its key go together", param_hint="--tls-cert, --tls-key")
    tls = None if tls_cert is None or tls_key is None else TlsFiles(cert=tls_cert, key=tls_key, client_ca=tls_client_ca)
    at = Installation(
        store=store,
        index=index,
        bundle=bundle,
        config=config,
        search=search,
        server=server,
    )
    now_s = time.time()
    found = [
        *check_versions(),
        *check_artefacts(at),
        *check_services(at, security, now_s),
        *check_ports(port or ()),
        *check_clock(at, now_s),
        *check_certificates(tls, tokens, now_s),
        *check_disk(at),
        *check_limits(),
    ]
    wrong = [finding for finding in found if not finding.sound]
    rows = (("ok" if each.sound else "WRONG", each.check, each.found, each.mend) for each in found)
    verdict = (
        f"{len(wrong)} of {len(found)} checks found something wrong" if wrong else f"all {len(found)} checks passed"
    )
    content = {
        "sound": not wrong,
        "findings": [
            {"check": each.check, "sound": each.sound, "found": each.found, "mend": each.mend} for each in found
        ],
    }
    show_report([table("", "check", "found", "mend it with", rows=rows), verdict], content, json_file)
    if wrong:
        sys.exit(1)
