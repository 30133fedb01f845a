"""What TLS and tokens cost a caller: `python -m scripts.bench security --json FILE`.

Both services run three times side by side: plainly, with tokens alone, and with mutual TLS and tokens on both hops.
One process calls them in turn, call by call, so that a noisy moment hits all alike; the plain ones are the control.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from model_stage.serving.rank_client import RankClient
from scripts.bench.markdown import formatted, markdown_table
from scripts.bench.rank.world import build_rank_world
from scripts.bench.report import ReportFile, finish, head, new_facts, note, target, targets_section, targets_table
from scripts.bench.timing import elapsed_ms
from scripts.servers import started
from search_stage.serving.client import SearchClient
from serving import ClientSecurity, Role
from serving.deadline import Deadline
from serving.security.tokens import find_credential, new_token
from store.command import JsonOption
from store.terminal import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scripts.bench.rank.world import RankWorld

PLAIN, TOKENS, ALL = "plain", "tokens", "TLS and tokens"
WARM_UP = 10
"""Calls of each kind that are not counted."""
TARGET_RATIO = 1.05
"""Of a ranking request behind all of it over a plain one."""
_DEADLINE_S = 60.0
_COLUMNS = {
    "call": "{row[call]}",
    "servers": "{row[servers]}",
    "p50, ms": "{row[p50_ms]:.3f}",
    "p99, ms": "{row[p99_ms]:.3f}",
    "p10 over plain": "{row[p10_ratio]:.3f}",
    "p50 over plain": "{row[p50_ratio]:.3f}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one pair of services is started and asked."""

    arguments: Sequence[str | Path]
    """Of both servers."""
    client: ClientSecurity


def security(
    candidates: Annotated[int, typer.Option(min=1, help="Of a ranking request.")] = 200,
    length: Annotated[int, typer.Option(min=100, help="Behaviors of the user.")] = 5_000,
    items: Annotated[int, typer.Option(min=2_000, help="Generated items.")] = 50_000,
    preset: Annotated[str, typer.Option(help="Network, untrained.")] = "tin",
    rounds: Annotated[int, typer.Option(min=2, help="Calls of each kind and way.")] = 400,
    json_file: JsonOption = None,
    report: ReportFile = None,
) -> None:
    """Measures calls with and without TLS and tokens in turn, and writes all numbers as JSON."""
    given = f"--candidates {candidates} --length {length} --items {items} --preset {preset} --rounds {rounds}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = new_facts(f"security --json FILE {given}", folder, data="generated")
        note("building")
        world = build_rank_world(folder / "world", [preset], [length], items)
        note("starting six servers")
        with ExitStack() as stack:
            calls = _calls(stack, world, _ways(folder), folder, (preset, length, candidates))
            note("timing")
            took = _alternate(calls, rounds)
    rows = [_row(took, *key) for key in took]
    ranked = next(row for row in rows if row["call"] == "rank" and row["servers"] == ALL)
    targets = [target("a ranking request, over plain", ranked["p50_ratio"], "<=", TARGET_RATIO)]
    facts |= {"rows": rows, "token_check_us": _token_check_us(), "targets": targets}
    shown = table(*_COLUMNS, rows=formatted(_COLUMNS, rows))
    finish(facts, _sections(facts), json_file, report, shown, targets_table(targets))


def _ways(folder: Path) -> dict[str, Way]:
    """Makes keys and tokens, and gives the three ways."""
    import trustme

    authority, paths = trustme.CA(), {name: folder / name for name in ("ca", "cert", "key", "tokens", "token")}
    issued = authority.issue_cert("127.0.0.1", common_name="bench")
    authority.cert_pem.write_to_path(paths["ca"])
    paths["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(paths["key"])
    token, credential = new_token("bench", tuple(Role), None)
    paths["token"].write_text(token)
    paths["tokens"].write_text(credential.line())
    tokens = ("--tokens", paths["tokens"])
    tls = ("--tls-cert", paths["cert"], "--tls-key", paths["key"], "--tls-client-ca", paths["ca"])
    known = ClientSecurity(tls_ca=paths["ca"], tls_cert=paths["cert"], tls_key=paths["key"], token_file=paths["token"])
    return {
        PLAIN: Way(arguments=(), client=ClientSecurity()),
        TOKENS: Way(arguments=tokens, client=ClientSecurity(token_file=paths["token"])),
        ALL: Way(arguments=(*tokens, *tls), client=known),
    }


def _calls(
    stack: ExitStack, world: RankWorld, ways: Mapping[str, Way], folder: Path, asked: tuple[str, int, int]
) -> dict[tuple[str, str], Callable[[], object]]:
    """Starts all services, and gives what is timed, by call and way."""
    preset, length, candidates = asked
    request = world.request(length, candidates)
    category = request.candidates.item[:1]
    roots = ("--store", world.searched.store, "--index", world.searched.index, "--config", world.config)
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name, way in ways.items():
        logs = folder / f"logs {name}"
        logs.mkdir()
        search = stack.enter_context(started("search_stage", logs, *roots, *way.arguments))
        bundle = ("--bundle", world.bundles[preset], "--search", search.address)
        ranking = stack.enter_context(started("model_stage", logs, *bundle, *_as_client(way.client), *way.arguments))
        searching = stack.enter_context(SearchClient(search.address, way.client))
        client = stack.enter_context(RankClient(ranking.address, way.client))
        assert not client.rank(request, Deadline.after(_DEADLINE_S)).degraded
        calls["rank", name] = lambda client=client: client.rank(request, Deadline.after(_DEADLINE_S))
        calls["the smallest call", name] = lambda each=searching: each.ancestors(category, Deadline.after(_DEADLINE_S))
        calls["a new connection", name] = lambda at=search.address, way=way: _connect(at, way.client, category)
    return dict(sorted(calls.items(), key=lambda call: call[0][0]))


def _as_client(security: ClientSecurity) -> list[str | Path]:
    """Gives the options with which a ranking server asks its search stage."""
    names = ("tls_ca", "tls_cert", "tls_key", "token_file")
    given = ((f"--search-{name.replace('_', '-')}", getattr(security, name)) for name in names)
    return [word for option, path in given if path is not None for word in (option, path)]


def _connect(address: str, security: ClientSecurity, category: Any) -> None:  # noqa: ANN401 (an array of ids)
    with SearchClient(address, security) as client:
        client.ancestors(category, Deadline.after(_DEADLINE_S))


def _alternate(
    calls: Mapping[tuple[str, str], Callable[[], object]], rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Times calls of one kind in turn, one of each way after another; gives the milliseconds of each."""
    took: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for kind in dict.fromkeys(kind for kind, _ in calls):
        ways = [key for key in calls if key[0] == kind]
        for number in range(-WARM_UP, rounds):
            turn = number % len(ways)  # nobody always comes behind the same one
            for key in (*ways[turn:], *ways[:turn]):
                spent_ms = elapsed_ms(calls[key])
                if number >= 0:
                    took[key].append(spent_ms)
    return took


def _row(took: Mapping[tuple[str, str], list[float]], call: str, servers: str) -> dict[str, Any]:
    own, plain = took[call, servers], took[call, PLAIN]
    return {
        "call": call,
        "servers": servers,
        "p10_ms": float(np.percentile(own, 10)),
        "p50_ms": float(np.median(own)),
        "p99_ms": float(np.percentile(own, 99)),
        "p10_ratio": float(np.percentile(own, 10) / np.percentile(plain, 10)),
        "p50_ratio": float(np.median(own) / np.median(plain)),
    }


def _token_check_us(repeats: int = 20_000) -> float:
    """Gives the microseconds in which one of a hundred tokens is found and compared."""
    made = [new_token(f"caller-{number}", [Role.RANK], time.time() + 3600) for number in range(100)]
    credentials = {credential.id: credential for _, credential in made}
    token, _ = made[50]
    started_s = time.perf_counter()
    for _ in range(repeats):
        find_credential(credentials, token)
    return 1e6 * (time.perf_counter() - started_s) / repeats


def _sections(facts: Mapping[str, Any]) -> list[str]:
    return [
        head("what TLS and tokens cost", facts, *__doc__.partition("\n\n")[2].strip().split("\n")),
        markdown_table(_COLUMNS, formatted(_COLUMNS, facts["rows"])),
        f"To find and compare one of a hundred tokens takes {facts['token_check_us']:.1f} microseconds of a server.",
        targets_section(facts["targets"]),
    ]
