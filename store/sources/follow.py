"""Takes a source into a store, until stopped: nothing twice and nothing lost, whichever process is killed."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.dataset.json_rows import parse_lines
from store.errors import StoreIOError, translate_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.delta.batch import AppendResult
    from store.fields import FieldKinds
    from store.live_writer import LiveWriter
    from store.sources.base import EventSource, SourceBatch

MAX_EVENTS = 10_000
_POLL_S = 1.0
_LOOK_S = 2.0
"""From one look for new partitions to the next."""
_PROBLEMS_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LineProblem:
    """A line that did not become an event."""

    partition: str
    position: int
    reason: str


@dataclass(slots=True, kw_only=True)
class FollowReport:
    """What became of the lines so far."""

    num_accepted: int = 0
    num_duplicates: int = 0
    num_refused: int = 0
    """Lines that are no event, or that the store refused."""
    num_left_bytes: int = 0
    """Behind the last complete line, and no whole event: the beginning of a line, which is read once that ends."""
    problems: list[LineProblem] = field(default_factory=list)
    """The first refused lines."""

    def count(self, result: AppendResult) -> None:
        """Adds what became of some lines."""
        self.num_accepted += result.num_accepted
        self.num_duplicates += result.num_duplicates
        self.num_refused += result.num_refused


def follow(
    writer: LiveWriter,
    source: EventSource,
    *,
    stop: Callable[[], bool],
    until_end: bool = False,
    kinds: FieldKinds | None = None,
    max_events: int = MAX_EVENTS,
    dead_letters: Path | None = None,
) -> FollowReport:
    """Appends what a source has and goes on waiting for more, in partitions that it gets meanwhile too.

    How far each partition has been read is stored in the transaction that stores its events. A line that is no event
    is counted and reported, and does not stop anything.

    Args:
        writer: Takes the events.
        source: Where they come from.
        stop: Asked before every batch, and about every second while nothing comes.
        until_end: Whether to stop when a poll brings nothing. A last event whose line has no end is taken, too.
        kinds: The store's side-info fields; None = as `parse_rows` guesses.
        max_events: Lines of one transaction.
        dead_letters: File to which every refused line is added, as a JSON object; None = nowhere.

    Raises:
        InputError: The source no longer has what comes next, or is another one.
        StoreError: The store cannot write. Starting again goes on where it was.
    """
    report = FollowReport()
    partitions = _Partitions(writer, source)
    partitions.find()
    while not stop():
        partitions.find_now_and_then()
        batch = source.poll(max_events, _POLL_S)
        if batch is None and until_end and not partitions.find():
            _take_rest(writer, source, report, kinds)
            break
        if batch is not None:
            _take(writer, source, batch, report, kinds, dead_letters)
    return report


class _Partitions:
    """The partitions of a source that are being read."""

    def __init__(self, writer: LiveWriter, source: EventSource) -> None:
        self._writer = writer
        self._source = source
        self._known: set[str] = set()
        self._looked_s = 0.0

    def find(self) -> bool:
        """Begins with the partitions that are new, each where its position is stored; gives whether there are any."""
        self._looked_s = time.monotonic()
        new = [name for name in self._source.partitions() if name not in self._known]
        for name in new:
            self._source.seek(name, self._writer.offset(_offset_name(self._source, name)))
            self._known.add(name)
        return bool(new)

    def find_now_and_then(self) -> None:
        if time.monotonic() - self._looked_s >= _LOOK_S:
            with suppress(StoreIOError):  # what is known can be read on; the next look finds the others
                self.find()


def _take_rest(writer: LiveWriter, source: EventSource, report: FollowReport, kinds: FieldKinds | None) -> None:
    """Takes a last event whose line has no end. A whole JSON object is one, for no other begins with it."""
    rest = source.rest()
    if rest is None:
        return
    events = parse_lines(rest.lines, kinds)
    if events.refused:
        report.num_left_bytes += len(rest.lines[0])
        return
    report.count(writer.append_from(_offset_name(source, rest.partition), events, rest.next_position))


def _take(
    writer: LiveWriter,
    source: EventSource,
    batch: SourceBatch,
    report: FollowReport,
    kinds: FieldKinds | None,
    dead_letters: Path | None,
) -> None:
    at = [number for number, line in enumerate(batch.lines) if line.strip()]
    events = parse_lines([batch.lines[number] for number in at], kinds)
    reasons = events.refused
    # Written before the offset moves on: after a crash some letters may be there twice, none is missing.
    _write_letters(dead_letters, source, batch, {at[row]: reason for row, reason in reasons.items()}, with_line=True)
    result = writer.append_from(_offset_name(source, batch.partition), events, batch.next_position)
    late = {row: reason for row, reason in result.reasons.items() if row not in reasons}
    # Without the line: what a store refuses may be of a user who was deleted, and must not be kept.
    _write_letters(dead_letters, source, batch, {at[row]: reason for row, reason in late.items()}, with_line=False)
    report.count(result)
    for row, reason in sorted({**reasons, **late}.items())[: _PROBLEMS_KEPT - len(report.problems)]:
        position = batch.positions[at[row]]
        report.problems.append(LineProblem(partition=batch.partition, position=position, reason=reason))


def _write_letters(
    path: Path | None, source: EventSource, batch: SourceBatch, reasons: dict[int, str], *, with_line: bool
) -> None:
    if path is None or not reasons:
        return
    letters = []
    for number, reason in sorted(reasons.items()):
        letter = {"source": source.name, "partition": batch.partition, "position": batch.positions[number]}
        line = {"line": batch.lines[number].decode(errors="replace")} if with_line else {}
        letters.append(json.dumps({**letter, "reason": reason, **line}) + "\n")
    with translate_os_errors(f"{path}: cannot write the refused lines"), path.open("a", encoding="utf-8") as file:
        file.writelines(letters)
        file.flush()
        os.fsync(file.fileno())


def _offset_name(source: EventSource, partition: str) -> str:
    return f"{source.name}/{partition}"
