"""Commands that say what a store holds, and whether it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from store.behavior_store import BehaviorStore
from store.cli.shared import (
    OPERATOR,
    JsonOption,
    StoreOption,
    add_row,
    age_text,
    bar,
    console,
    errors,
    facts,
    print_json,
    say,
    share_text,
    size_text,
    time_text,
)
from store.operations.stats import stats as run_stats
from store.operations.trace import trace_user
from store.operations.verify.verify import verify as run_verify
from store.types import parse_id

if TYPE_CHECKING:
    from pathlib import Path

    from store.operations.stats import DeltaStats, StoreStats

_SHOWN_UNMAPPED = 10


def stats(store: StoreOption, as_json: JsonOption = False) -> None:
    """Shows what the store holds: users, events, lengths, domains, unmapped categories, disk, delta."""
    with bar("count") as progress:
        found = run_stats(store, progress=progress)
    if as_json:
        print_json(found)
        return
    console.print(_summary(found))
    if found.unmapped:
        table = Table(
            "domain", "unmapped category", "behaviors", "share", title="found by soft and recency search only"
        )
        for one in found.unmapped[:_SHOWN_UNMAPPED]:
            share = share_text(one.num_behaviors, found.num_behaviors)
            add_row(table, one.domain, one.category or "none given", f"{one.num_behaviors:,}", share)
        if len(found.unmapped) > _SHOWN_UNMAPPED:
            table.caption = f"and {len(found.unmapped) - _SHOWN_UNMAPPED:,} more (--json has all)"
        console.print(table)


def _summary(found: StoreStats) -> Table:
    lengths = found.lengths
    table = facts("generation", found.generation)
    add_row(table, "users", f"{found.num_users:,}")
    add_row(table, "behaviors", f"{found.num_behaviors:,}")
    add_row(table, "  per user", f"p50 {lengths.p50:,}, p90 {lengths.p90:,}, p99 {lengths.p99:,}, max {lengths.max:,}")
    add_row(table, "  from", time_text(found.first_ms))
    add_row(table, "  to", time_text(found.last_ms))
    add_row(table, "  unmapped", f"{found.num_unmapped:,} ({share_text(found.num_unmapped, found.num_behaviors)})")
    for domain in found.domains:
        add_row(table, f"  of {domain.domain}", f"{domain.num_behaviors:,} of {domain.num_users:,} users")
    add_row(table, "streams", ", ".join(found.streams) or "none")
    add_row(table, "categories", f"{found.num_categories:,}")
    add_row(table, "items", f"{found.num_items:,}")
    add_row(table, "ads that cover products", f"{found.num_covers:,}")
    for name, fields in (
        ("behavior fields", found.behavior_fields),
        ("item fields", found.item_fields),
        ("user fields", found.user_fields),
    ):
        add_row(table, name, ", ".join(fields) or "none")
    _add_delta(table, found.delta)
    for part, size in found.disk_bytes.items():
        add_row(table, f"disk: {part}", size_text(size))
    add_row(table, "generations kept", ", ".join(found.generations))
    return table


def _add_delta(table: Table, delta: DeltaStats | None) -> None:
    if delta is None:
        add_row(table, "delta", "none: nothing was ever appended")
        return
    add_row(
        table, "delta", f"{delta.num_unmerged:,} events of {delta.num_users:,} users since the generation was built"
    )
    if delta.oldest_ms is not None and delta.age_ms is not None:
        add_row(table, "  oldest", f"{time_text(delta.oldest_ms)}, {age_text(delta.age_ms)} ago")
    add_row(table, "  held in all", f"{delta.num_events:,} events, up to sequence number {delta.last_sequence:,}")
    add_row(table, "  users deleted", f"{delta.num_tombstones:,}")
    add_row(table, "  writer", delta.writer or "none")


def history(
    store: StoreOption,
    user: Annotated[str, typer.Option(help="User id as it stands in the input.")],
    limit: Annotated[int, typer.Option(min=1, help="Show the newest that many.")] = 20,
    domain: Annotated[list[str] | None, typer.Option(help="Only of this domain; may be given several times.")] = None,
    as_of_ms: Annotated[int | None, typer.Option(help="Only before this time, milliseconds UTC.")] = None,
) -> None:
    """Shows a user's newest behaviors, newest first, those still in the delta too."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        key = parse_id(user, "user")
        rows = snapshot.user(key).history(as_of_ms=as_of_ms, domains=domain, limit=limit)
        words = snapshot.vocabulary
        table = Table("time (UTC)", "domain", "action", "scene", "item", "category")
        for at in range(len(rows) - 1, -1, -1):
            add_row(
                table,
                time_text(int(rows.timestamp_ms[at])),
                words.domains[rows.domain[at]],
                words.actions[rows.action[at]],
                words.scenes[rows.scene[at]],
                snapshot.name_of("item", int(rows.item[at])),
                snapshot.name_of("category", int(rows.category[at])) or "unmapped",
            )
        total = snapshot.user(key).columns.num_behaviors
    console.print(table)
    say(f"{len(rows)} of {total} behaviors of user {user}")


def verify(
    store: StoreOption,
    generation: Annotated[str | None, typer.Option(help="Name of the generation; by default the current one.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Look for this user in every kept generation and the delta instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Audits a generation and the delta: every hash, every record, every count; prints the digest of the content.

    With --user it says where anything of that user is, and fails if the user was deleted and something is left.
    """
    if user is not None:
        _verify_user(store, user, as_json)
        return
    with bar("verify") as progress:
        report = run_verify(store, generation, progress=progress)
    if as_json:
        print_json(report)
        return
    say(f"generation {report.generation} is sound: {report.num_behaviors:,} behaviors of {report.num_users:,} users")
    for one in report.coverage:
        say(f"  {one.num_bridged:,} of {one.num_categories:,} categories of {one.domain} are bridged")
    if report.delta is not None:
        delta = report.delta
        say(
            f"  the delta is sound: {delta.num_events:,} events, {delta.num_unmerged:,} of them not merged yet, "
            f"{delta.num_tombstones:,} users deleted"
        )
    say(f"  {report.num_unmapped:,} behaviors of the generation are unmapped")
    say(f"digest {report.digest}")


def _verify_user(root: Path, user: str, as_json: bool) -> None:
    trace = trace_user(root, parse_id(user, "user"))
    if as_json:
        print_json(trace)
    else:
        table = Table("place", "what is there", "")
        for place in trace.places:
            add_row(table, place.name, ", ".join(place.found) or "nothing", "must go" if place.must_go else "")
        console.print(table)
        stone = trace.tombstone
        say("never deleted" if stone is None else f"deleted {time_text(stone.deleted_ms)} UTC")
    if trace.remains:
        errors.print(
            f"lookback-store: user {user} was deleted and is still in {', '.join(trace.remains)}; run `lookback-store "
            "rebuild`, which removes these generations too",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(OPERATOR)
