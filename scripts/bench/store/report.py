"""The dated report of a run, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.bench.markdown import formatted, markdown_table, paragraph
from scripts.bench.report import head, targets_section
from scripts.bench.store.appends import CALLERS
from scripts.bench.store.reads import KINDS
from scripts.bench.store.world import EVENTS_PER_USER, RAW_BYTES

if TYPE_CHECKING:
    from scripts.bench.store.reads import Reads
    from scripts.bench.store.run import Results, Settings
    from scripts.bench.timing import Spread

_BUILD_COLUMNS = {
    "events": "{row.events:,}",
    "s": "{row.seconds:.1f}",
    "of CPU": "{row.cpu_s:.1f}",
    "events a second": "{row.events_per_s:,.0f}",
    "peak memory, MiB": "{row.peak_rss_mib:,.0f}",
}
_COMMITS_COLUMNS = {
    "": "{row[0]}",
    "commits": "{row[1].commits:,}",
    "events": "{row[1].events:,}",
    "p50 / p95 ms": "{row[1].p50_ms:.2f} / {row[1].p95_ms:.2f}",
    "LMDB alone, ms": "{row[1].control_p50_ms:.2f} / {row[1].control_p95_ms:.2f}",
    "events/s": "{row[1].events_per_s:,.0f}",
    "LMDB alone": "{row[1].control_events_per_s:,.0f}",
    "share of LMDB": "{row[1].share_of_lmdb:.0%}",
}


def sections(facts: dict[str, Any], results: Results, settings: Settings) -> tuple[str, ...]:
    """Gives the sections of a report.

    Args:
        facts: What the JSON file holds.
        results: The measurements.
        settings: How much was measured.
    """
    return (
        _head(facts, settings),
        targets_section(facts["targets"]),
        _ingest(facts, results),
        _reads(results),
        _appends(results),
        _live(results),
        _clicks(facts),
        _definitions(facts),
    )


def _head(facts: dict[str, Any], settings: Settings) -> str:
    return head(
        "The behavior store",
        facts,
        f"Generated events: {settings.events:,}, on average {EVENTS_PER_USER} a user (log-normal),",
        f"{settings.items:,} items, 2,000 categories, 2 domains x 2 actions x 4 scenes, one year; no event ids,",
        f"no side-info; {RAW_BYTES} raw bytes an event. The Parquet files were written just before and are in the",
        "page cache. Ingest and rebuild run on one core. The JSON file has least, median and greatest of the repeats.",
    )


def _ingest(facts: dict[str, Any], results: Results) -> str:
    first, rebuild = results.ingests[0], results.rebuild
    raw = facts["controls"]["raw_lmdb_events_per_s"]
    shares = ", ".join(f"{step} {share:.0%}" for step, share in facts["share_of_time"]["ingest"].items())
    control = paragraph(
        f"Share of time: {shares}.",
        f"The same ready-made records put by LMDB alone, in order, with one sync: {raw['median']:,.0f} events a second",
        f"({raw['min']:,.0f} to {raw['max']:,.0f}); ingest runs at {facts['ingest_vs_raw_lmdb']:.3f} of that.",
        f"A rebuild of {rebuild.events:,} events, base and delta, after the appends below: {rebuild.seconds:.1f} s,",
        f"{rebuild.events_per_s:,.0f} events a second, {rebuild.peak_rss_mib:,.0f} MiB.",
    )
    disk = paragraph(
        f"On the disk, {first.held:,} events of {first.users:,} users",
        f"(the Parquet files: {results.parquet_bytes / first.held:.1f} bytes an event):",
    )
    parts = [(part, f"{size / 2**20:,.1f}", f"{size / first.held:.2f}") for part, size in results.disk.items()]
    return "\n\n".join(
        (
            "## Ingest",
            markdown_table(_BUILD_COLUMNS, formatted(_BUILD_COLUMNS, results.all_ingests)),
            control,
            disk,
            markdown_table(("part of the generation", "MiB", "bytes an event"), parts),
        )
    )


def _reads(results: Results) -> str:
    text = paragraph(
        "Microseconds: of each repeat the mean of the calls, of these the median (least to greatest), in one snapshot.",
        f"Taking and closing a snapshot: {_range(results.reads.snapshot_us)}. The same user again and again, so that",
        "its record is in the page cache and a short one in the CPU's.",
    )
    kinds = "\n".join(f"- *{kind}*: {meaning}" for kind, meaning in KINDS.items())
    return "\n\n".join(("## Reads", text, kinds, _reads_table(results.reads)))


def _reads_table(reads: Reads) -> str:
    rows = [
        (f"{int(length):,}", *(_range(by[length]) for by in reads.us.values()))
        for length in next(iter(reads.us.values()))
    ]
    return markdown_table(("behaviors", *reads.us), rows)


def _appends(results: Results) -> str:
    appends = results.appends
    text = paragraph(
        "One caller; a call returns when its events are durable. LMDB alone: the same keys and values in the same",
        "transactions, just as durable, in an environment of its own on the same disk, alternating with ours.",
    )
    rows = formatted(_COMMITS_COLUMNS, [("one by one", appends.singles), ("in batches", appends.batches)])
    further = f"The delta takes {appends.delta_bytes_per_event:.0f} bytes an event."
    if appends.crowd_events_per_s is not None:
        further += f" {CALLERS} callers at once, one by one: {appends.crowd_events_per_s:,.0f} events a second."
    return "\n\n".join(("## Appends", text, markdown_table(_COMMITS_COLUMNS, rows), further))


def _live(results: Results) -> str:
    text = paragraph(
        "The delta holds the appends of all users. A user without live events is read from the base alone; one with",
        "some is merged when it is read, which takes time by the row until the next rebuild.",
    )
    parts = [f"{int(rows):,} live events of the user:\n\n{_reads_table(r)}" for rows, r in results.live_reads.items()]
    return "\n\n".join(("## Reads with live events", text, *parts))


def _clicks(facts: dict[str, Any]) -> str:
    clicks = facts["globo_news"]
    if isinstance(clicks, str):
        return f"## The real click log\n\n{clicks.capitalize()}."
    same = "the same content" if clicks["same_content_as_ingest"] else "**not the same content**"
    text = paragraph(
        f"`scripts.datasets.globo_news` (docs/datasets.md): {clicks['clicks']:,} clicks of {clicks['users']:,} users,",
        f"six side-info columns; {clicks['held']:,} of them are different. Ingest: {clicks['ingest_s']:.1f} s,",
        f"{clicks['ingest_events_per_s']:,.0f} events a second, {clicks['ingest_peak_rss_mib']:,.0f} MiB.",
        f"On a base of the earlier {clicks['base_events']:,} clicks the newest {clicks['appends']:,} were appended",
        f"({clicks['duplicates']:,} duplicates): in batches {clicks['append_batch_events_per_s']:,.0f} events a second",
        f"(LMDB alone {clicks['append_batch_control_events_per_s']:,.0f}), one by one p50",
        f"{clicks['append_durable_p50_ms']:.2f} ms, p95 {clicks['append_durable_p95_ms']:.2f} ms (LMDB alone p50",
        f"{clicks['append_durable_control_p50_ms']:.2f} ms); {clicks['delta_bytes_per_event']:.0f} bytes an event in",
        f"the delta. `verify` finds {same} as in the ingest of all clicks, digest {clicks['digest']}.",
    )
    return f"## The real click log\n\n{text}"


def _definitions(facts: dict[str, Any]) -> str:
    lines = [paragraph(f"- `{name}`: {text}.", indent="  ") for name, text in facts["definitions"].items()]
    return "## What the numbers are\n\n" + "\n".join(lines)


def _range(spread: Spread) -> str:
    return f"{spread.median:,.1f} ({spread.min:,.1f} to {spread.max:,.1f})"
