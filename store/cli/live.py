"""Commands that write live events and deletions: only one process at a time may, the holder of the store's lock."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from store.behavior_store import BehaviorStore
from store.command import StoreOption, UserOption, output_file
from store.dataset.json_rows import parse_lines
from store.dataset.oddities import YEAR_2000_MS, date_text, seconds_hint
from store.delta.batch import ACCEPTED
from store.errors import InputError
from store.live_writer import LiveWriter
from store.sources import FileLogSource, FollowReport, KafkaSource
from store.sources import follow as run_follow
from store.sources.file_log import bounded_line
from store.terminal import say, warn
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.sources import EventSource

_BATCH_LINES = 10_000
_SHOWN = 10

DeadLettersOption = Annotated[
    Path | None, output_file("--dead-letters", "File to add refused lines to, as JSON objects.")
]


def append(
    store: StoreOption,
    file: Annotated[Path | None, typer.Option("--input", help="JSONL file; default: standard input.")] = None,
) -> None:
    """Appends events, one JSON object a line with the columns of behaviors (docs/data.md); durable when it returns.

    The exit status is 2 if a line was refused; all others are in.
    """
    report = FollowReport()
    with BehaviorStore.open(store) as opened, LiveWriter(opened) as writer:
        with opened.snapshot() as snapshot:
            kinds = snapshot.meta.behavior_fields
        for numbered in _batches(file):
            events = parse_lines([line for _, line in numbered], kinds)
            result = writer.append(events)
            report.count(result)
            early = np.flatnonzero((events.timestamp_ms < YEAR_2000_MS) & (result.result == ACCEPTED))
            if len(early):
                value = int(events.timestamp_ms[early[0]])
                hint = f"line {numbered[early[0]][0]}: {value} is {date_text(value)}{seconds_hint(value)}"
                warn(f"warning: timestamp_ms: {len(early):,} times before 2000, such as {hint}")
            for row in sorted(result.reasons):
                warn(f"refused line {numbered[row][0]}: {result.reasons[row]}")
    _show(report)
    if report.num_refused:
        raise InputError(f"{report.num_refused:,} lines were refused; all others are in")


def follow(
    store: StoreOption,
    source: Annotated[str, typer.Option(help="file:PATH, a JSONL file that grows, or kafka:TOPIC.")],
    name: Annotated[str | None, typer.Option(help="Keep the position under this name; default: the source's.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Setting of the Kafka client, KEY=VALUE; repeat it.")] = None,
    dead_letters: DeadLettersOption = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop when there is nothing more to read.")] = False,
) -> None:
    """Takes a log of events in, and goes on until SIGTERM; a replay or a kill changes nothing.

    How far it has read is stored in the transaction that stores the events.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    log = _open_source(source, name, option or [])
    with closing(log), BehaviorStore.open(store) as opened, LiveWriter(opened) as writer:
        with opened.snapshot() as snapshot:
            kinds = snapshot.meta.behavior_fields
        report = run_follow(
            writer, log, stop=stopped.is_set, until_end=until_end, kinds=kinds, dead_letters=dead_letters
        )
    for problem in report.problems[:_SHOWN]:
        warn(f"refused {problem.partition}:{problem.position}: {problem.reason}")
    if report.num_left_bytes:
        warn(f"left over: {report.num_left_bytes:,} bytes behind the last line, no whole event; end it with a line end")
    _show(report)


def delete_user(
    store: StoreOption,
    user: UserOption,
) -> None:
    """Deletes everything of a user, at once and for good; the next rebuild erases it from the disk."""
    with BehaviorStore.open(store) as opened, LiveWriter(opened) as writer:
        count = writer.delete_user(parse_id(user, "user"))
    say(f"deleted {count:,} behaviors of user {user}; `lookback-store rebuild` erases them from the disk")


def _show(report: FollowReport) -> None:
    say({"accepted": report.num_accepted, "duplicates": report.num_duplicates, "refused": report.num_refused})


def _batches(file: Path | None) -> Iterator[list[tuple[int, bytes]]]:
    """Gives the lines that are not empty, with their numbers, some at a time."""
    try:
        with nullcontext(sys.stdin.buffer) if file is None else file.open("rb") as stream:
            lines = iter(lambda: bounded_line(stream)[0], b"")
            numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
            yield from iter(lambda: list(islice(numbered, _BATCH_LINES)), [])
    except OSError as exc:
        raise InputError(f"input: {file} cannot be read ({exc})") from exc


def _open_source(text: str, name: str | None, options: list[str]) -> EventSource:
    kind, _, where = text.partition(":")
    if kind == "file" and where:
        return FileLogSource(Path(where), name)
    if kind == "kafka" and where:
        settings = dict(_setting(option) for option in options)
        return KafkaSource(where, settings, name)
    raise InputError(f"source: must be file:PATH or kafka:TOPIC, is {text!r}")


def _setting(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not key or not equals:
        raise InputError(f"option: must be KEY=VALUE, is {option!r}")
    return key, value
