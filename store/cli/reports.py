"""Commands that say what a store holds, and whether it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from store.behavior_store import BehaviorStore
from store.command import JsonOption, StoreOption, UserOption, time_option
from store.errors import StoreError
from store.operations.stats import stats as run_stats
from store.operations.trace import trace_user
from store.operations.verify.verify import verify as run_verify
from store.terminal import (
    age_text,
    bar,
    more_text,
    say,
    share_text,
    show_report,
    size_text,
    table,
    time_text,
)
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from store.operations.stats import DeltaStats, StoreStats
    from store.operations.trace import UserTrace
    from store.operations.verify.verify import VerifyReport
    from store.terminal import Part

_SHOWN_UNMAPPED = 10


def stats(store: StoreOption, json_file: JsonOption = None) -> None:
    """Shows what the store holds: users, events, lengths, domains, unmapped categories, disk, delta."""
    with bar("count") as progress:
        found = run_stats(store, progress=progress)
    show_report(_stats_tables(found), found, json_file)


def _stats_tables(found: StoreStats) -> Iterator[Part]:
    lengths = found.lengths
    yield {
        "generation": found.generation,
        "users": found.num_users,
        "behaviors": found.num_behaviors,
        "  per user": f"p50 {lengths.p50:,}, p90 {lengths.p90:,}, p99 {lengths.p99:,}, max {lengths.max:,}",
        "  from": time_text(found.first_ms),
        "  to": time_text(found.last_ms),
        "  unmapped": f"{found.num_unmapped:,} ({share_text(found.num_unmapped, found.num_behaviors)})",
        **{f"  of {each.domain}": f"{each.num_behaviors:,} of {each.num_users:,} users" for each in found.domains},
        "streams": ", ".join(found.streams) or "none",
        "categories": found.num_categories,
        "items": found.num_items,
        "ads that cover products": found.num_covers,
        "behavior fields": _fields_text(found.behavior_fields),
        "item fields": _fields_text(found.item_fields),
        "user fields": _fields_text(found.user_fields),
        **_delta_facts(found.delta),
        **{f"disk: {part}": size_text(size) for part, size in found.disk_bytes.items()},
        "generations kept": ", ".join(found.generations),
    }
    if found.unmapped:
        yield table(
            *("domain", "unmapped category", "behaviors", "share"),
            rows=(
                (
                    each.domain,
                    each.category or "none given",
                    each.num_behaviors,
                    share_text(each.num_behaviors, found.num_behaviors),
                )
                for each in found.unmapped[:_SHOWN_UNMAPPED]
            ),
            title="found by soft and recency search only",
            caption=more_text(len(found.unmapped), _SHOWN_UNMAPPED, "more (--json has all)"),
        )


def _fields_text(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({holds})" for name, holds in fields.items()) or "none"


def _delta_facts(delta: DeltaStats | None) -> dict[str, str | int]:
    if delta is None:
        return {"delta": "none: nothing was ever appended"}
    rows: dict[str, str | int] = {
        "delta": f"{delta.num_unmerged:,} events of {delta.num_users:,} users since the generation was built"
    }
    if delta.oldest_ms is not None and delta.age_ms is not None:
        rows["  oldest"] = f"{time_text(delta.oldest_ms)}, {age_text(delta.age_ms)} ago"
    return rows | {
        "  held in all": f"{delta.num_events:,} events, up to sequence number {delta.last_sequence:,}",
        "  users deleted": delta.num_tombstones,
        "  writer": delta.writer or "none",
    }


def history(
    store: StoreOption,
    user: UserOption,
    limit: Annotated[int, typer.Option(min=1, help="Show the newest that many.")] = 20,
    domain: Annotated[list[str] | None, typer.Option(help="Only of this domain; may be given several times.")] = None,
    as_of: Annotated[int | None, time_option("--as-of", "Only before this time; default: all.")] = None,
) -> None:
    """Shows a user's newest behaviors, newest first, those still in the delta too."""
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        key = parse_id(user, "user")
        rows = snapshot.user(key).history(as_of_ms=as_of, domains=domain, limit=limit)
        words = snapshot.vocabulary
        shown = table(
            *("time (UTC)", "domain", "action", "scene", "item", "category"),
            rows=(
                (
                    time_text(int(rows.timestamp_ms[at])),
                    words.domains[rows.domain[at]],
                    words.actions[rows.action[at]],
                    words.scenes[rows.scene[at]],
                    snapshot.name_of("item", int(rows.item[at])),
                    snapshot.name_of("category", int(rows.category[at])) or "unmapped",
                )
                for at in range(len(rows) - 1, -1, -1)
            ),
        )
        total = snapshot.user(key).columns.num_behaviors
    say(shown, f"{len(rows)} of {total} behaviors of user {user}")


def verify(
    store: StoreOption,
    generation: Annotated[str | None, typer.Option(help="Name of the generation; by default the current one.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Look for this user in every kept generation and the delta instead.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Audits a generation and the delta: every hash, every record, every count; prints the digest of the content.

    With --user it says where anything of that user is, and fails if the user was deleted and something is left.
    """
    if user is None:
        with bar("verify") as progress:
            report = run_verify(store, generation, progress=progress)
        show_report(_verify_lines(report), report, json_file)
        return
    trace = trace_user(store, parse_id(user, "user"))
    show_report(_trace_parts(trace), trace, json_file)
    if trace.remains:
        raise StoreError(
            f"user {user} was deleted and is still in {', '.join(trace.remains)}; run `lookback-store rebuild`, which "
            "removes these generations too"
        )


def _verify_lines(report: VerifyReport) -> Iterator[Part]:
    yield f"generation {report.generation} is sound: {report.num_behaviors:,} behaviors of {report.num_users:,} users"
    for one in report.coverage:
        yield f"  {one.num_bridged:,} of {one.num_categories:,} categories of {one.domain} are bridged"
    delta = report.delta
    if delta is not None:
        yield (
            f"  the delta is sound: {delta.num_events:,} events, {delta.num_unmerged:,} of them not merged yet, "
            f"{delta.num_tombstones:,} users deleted"
        )
    yield f"  {report.num_unmapped:,} behaviors of the generation are unmapped"
    yield f"digest {report.digest}"


def _trace_parts(trace: UserTrace) -> Iterator[Part]:
    yield table(
        *("place", "what is there", ""),
        rows=(
            (place.name, ", ".join(place.found) or "nothing", "must go" if place.must_go else "")
            for place in trace.places
        ),
    )
    stone = trace.tombstone
    yield "never deleted" if stone is None else f"deleted {time_text(stone.deleted_ms)} UTC"
