"""Takes a source into a store, until stopped: nothing twice and nothing lost, whichever process is killed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.dataset.json_rows import parse_lines
from store.errors import InputError, translate_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store.delta.batch import AppendResult
    from store.fields import FieldKinds
    from store.live_writer import LiveWriter
    from store.sources.base import EventSource, SourceBatch

MAX_EVENTS = 10_000
_POLL_S = 1.0
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
    """Appends what a source has and goes on waiting for more.

    How far each partition has been read is stored in the transaction that stores its events. A line that is no event
    is counted and reported, and does not stop anything.

    Args:
        writer: Takes the events.
        source: Where they come from.
        stop: Asked before every batch, and about every second while nothing comes.
        until_end: Whether to stop when a poll brings nothing.
        kinds: The store's side-info fields; None = as `parse_rows` guesses.
        max_events: Lines of one transaction.
        dead_letters: File to which every refused line is added, as a JSON object; None = nowhere.

    Raises:
        InputError: The source no longer has what comes next.
        StoreError: The store cannot write. Starting again goes on where it was.
    """
    report = FollowReport()
    for partition in source.partitions():
        stored = writer.offset(_offset_name(source, partition))
        source.seek(partition, _parse_offset(source, partition, stored))
    while not stop():
        batch = source.poll(max_events, _POLL_S)
        if batch is not None:
            _take(writer, source, batch, report, kinds, dead_letters)
        elif until_end:
            break
    return report


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
    offset = str(batch.next_offset).encode()
    result = writer.append_from(_offset_name(source, batch.partition), events, offset)
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
    with translate_os_errors(f"{path}: cannot write the refused lines"), path.open("a") as file:
        file.writelines(letters)
        file.flush()
        os.fsync(file.fileno())


def _offset_name(source: EventSource, partition: str) -> str:
    return f"{source.name}/{partition}"


def _parse_offset(source: EventSource, partition: str, stored: bytes | None) -> int:
    if stored is None:
        return 0
    if not stored.isdigit():
        raise InputError(f"{source.name}: the stored offset {stored!r} of partition {partition} is no number")
    return int(stored)
