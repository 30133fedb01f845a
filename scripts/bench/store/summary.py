"""The numbers of a run by the names the project gives them, with spreads, controls and targets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.bench.report import target
from scripts.bench.store.world import RAW_BYTES
from scripts.bench.timing import Spread

if TYPE_CHECKING:
    from scripts.bench.store.appends import Commits
    from scripts.bench.store.bulk import Build
    from scripts.bench.store.clicks import Clicks
    from scripts.bench.store.run import Results

DEFINITIONS = {
    "ingest_events_per_s": "events / seconds of the whole ingest, Parquet to published and synced base; one process on "
    "one core; median of the repeats",
    "ingest_vs_raw_lmdb": "ingest_events_per_s / rate at which LMDB puts the same ready-made records from memory, in "
    "order (putmulti, append), and syncs them once; median of the ratios, each of neighbours in time",
    "append_durable_p50_ms": "one caller, one event, one durable commit",
    "append_batch_events_per_s": "one caller, each batch one durable commit",
    "read_user_us": "user(user, check=True).columns in an open snapshot: the whole record is read, its checksum "
    "compared; of each repeat the mean of the calls, of these the median",
    "cut_user_us": "user(user).columns.num_before(as_of_ms) in an open snapshot, as a search begins: the user as "
    "views, and where a time in the middle of the history cuts it",
    "cut_user_first_us": "the same with the opening and closing of a snapshot",
    "disk_over_raw": f"whole blocks of the published generation / {RAW_BYTES} bytes an event (item 8, category 8, time "
    "8, domain 1, action 1, scene 2)",
    "ingest_peak_rss_mib": "largest of all ingests of generated events, each in a process of its own (VmHWM)",
}


def summarise(results: Results) -> dict[str, Any]:
    """Gives the numbers that have a name and a target first, then where they come from."""
    facts = _headline(results)
    appends = results.appends
    return {
        **facts,
        "targets": _targets(facts),
        "definitions": DEFINITIONS,
        "spread": {
            "ingest_events_per_s": asdict(Spread.of([build.events_per_s for build in results.ingests])),
            "ingest_vs_raw_lmdb": asdict(Spread.of(_ratios(results))),
            "append_durable_p50_ms": asdict(appends.singles.p50_ms_by_round),
            "append_batch_events_per_s": asdict(appends.batches.events_per_s_by_round),
            **{name: {length: asdict(spread) for length, spread in by.items()} for name, by in _reads(results)},
        },
        "controls": {
            "raw_lmdb_events_per_s": asdict(Spread.of(_raw_rates(results))),
            "append_durable": _control(appends.singles),
            "append_batch": _control(appends.batches),
        },
        "share_of_time": {
            "ingest": _shares(results.ingests),
            "append_durable": {"bare commit of the same bytes": appends.singles.share_of_lmdb},
            "append_batch": {"bare commit of the same bytes": appends.batches.share_of_lmdb},
        },
        "peak_rss_mib_by_events": {
            # Ascending, so that of equal numbers of events the largest stays.
            str(build.events): build.peak_rss_mib
            for build in sorted(results.all_ingests, key=lambda build: build.peak_rss_mib)
        },
        "disk_bytes_by_part": results.disk,
        "globo_news": _clicks(results.clicks),
    }


def _headline(results: Results) -> dict[str, Any]:
    builds, appends = results.ingests, results.appends
    return {
        "ingest_events_per_s": float(np.median([build.events_per_s for build in builds])),
        "ingest_vs_raw_lmdb": float(np.median(_ratios(results))),
        "append_durable_p50_ms": appends.singles.p50_ms,
        "append_batch_events_per_s": appends.batches.events_per_s,
        **{name: {length: spread.median for length, spread in by.items()} for name, by in _reads(results)},
        "disk_over_raw": sum(results.disk.values()) / (RAW_BYTES * builds[0].held),
        "ingest_peak_rss_mib": max(build.peak_rss_mib for build in results.all_ingests),
    }


def _targets(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Gives what was to be reached, and what was."""
    cut = facts["cut_user_us"]
    first, last = next(iter(cut)), list(cut)[-1]
    rows = [
        ("ingest_events_per_s", facts["ingest_events_per_s"], ">=", 1_000_000),
        ("append_durable_p50_ms", facts["append_durable_p50_ms"], "<=", 1.0),
        ("append_batch_events_per_s", facts["append_batch_events_per_s"], ">=", 200_000),
        ("read_user_us of 10,000 behaviors", facts["read_user_us"].get("10000"), "<=", 40.0),
        ("cut_user_us of 10,000 behaviors", cut.get("10000"), "<=", 10.0),
        (f"cut_user_us of {int(last):,} / of {int(first):,}", cut[last] / cut[first], "<=", 2.0),
        ("disk_over_raw", facts["disk_over_raw"], "<=", 1.25),
        ("ingest_peak_rss_mib", facts["ingest_peak_rss_mib"], "<", 1536),
    ]
    return [target(what, value, sign, bar) for what, value, sign, bar in rows if value is not None]


def _reads(results: Results) -> list[tuple[str, dict[str, Spread]]]:
    """Gives the kinds of reads that have a name, each by number of behaviors."""
    names = {"read_user_us": "read", "cut_user_us": "cut", "cut_user_first_us": "first"}
    return [(name, results.reads.us[kind]) for name, kind in names.items()]


def _raw_rates(results: Results) -> list[float]:
    return [build.held / seconds for build, seconds in zip(results.ingests, results.raw_s, strict=True)]


def _ratios(results: Results) -> list[float]:
    return [build.events_per_s / rate for build, rate in zip(results.ingests, _raw_rates(results), strict=True)]


def _control(commits: Commits) -> dict[str, float]:
    return {name: getattr(commits, f"control_{name}") for name in ("p50_ms", "p95_ms", "events_per_s")}


def _shares(builds: tuple[Build, ...]) -> dict[str, float]:
    """Gives each step's part of the time, over all repeats."""
    total = sum(sum(build.steps_s.values()) for build in builds)
    return {step: sum(build.steps_s[step] for build in builds) / total for step in builds[0].steps_s}


def _clicks(clicks: Clicks | None) -> dict[str, Any] | str:
    if clicks is None:
        return "not measured: the original files are not there"
    appends = clicks.appends
    return {
        "clicks": clicks.ingest.events,
        "held": clicks.ingest.held,
        "users": clicks.ingest.users,
        "ingest_s": clicks.ingest.seconds,
        "ingest_events_per_s": clicks.ingest.events_per_s,
        "ingest_peak_rss_mib": clicks.ingest.peak_rss_mib,
        "base_events": clicks.base.events,
        "appends": appends.batches.events + appends.singles.events,
        "duplicates": appends.batches.duplicates + appends.singles.duplicates,
        "append_batch_events_per_s": appends.batches.events_per_s,
        "append_batch_control_events_per_s": appends.batches.control_events_per_s,
        "append_durable_p50_ms": appends.singles.p50_ms,
        "append_durable_p95_ms": appends.singles.p95_ms,
        "append_durable_control_p50_ms": appends.singles.control_p50_ms,
        "delta_bytes_per_event": appends.delta_bytes_per_event,
        "same_content_as_ingest": clicks.is_same,
        "digest": clicks.digest,
    }
