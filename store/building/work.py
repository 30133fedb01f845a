"""The long steps of a build, in this process or in several, and the folder that lets a killed one go on."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING

import numpy as np

from store.building.event_files import spill_piece
from store.building.partition import Counts, PartitionBuilder
from store.errors import StoreIOError, TooManyBadRowsError
from store.records.block_codec import EncodedBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from store.base.files import BaseWriter
    from store.building.event_files import BehaviorFiles, Piece
    from store.building.options import BuildOptions, Progress
    from store.building.partition import Plan
    from store.building.spill import SpillPart
    from store.dataset.bad_rows import BadRows
    from store.fields import FieldKinds

_ROW_BYTES = 1024
"""Memory that one row takes while its partition is arranged, generously."""
_CACHED_ROWS = 1 << 18
"""Rows of a partition whose columns stay in a core's cache: larger ones sort more slowly."""
_MAX_BITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The folder of one build's parts. Its name tells the input: the same input finds what is done already."""

    folder: Path
    bits: int
    """Logarithm of the number of partitions."""
    kinds: FieldKinds

    @staticmethod
    def for_input(root: Path, files: BehaviorFiles, kinds: FieldKinds, bits: int) -> Work:
        """Gives the folder for some files, by their names, sizes and times of change."""
        status = [(str(piece.path.resolve()), piece.path.stat(), piece.part) for piece in files.pieces]
        facts = [[name, stat.st_size, stat.st_mtime_ns, repr(part)] for name, stat, part in status]
        digest = hashlib.sha256(json.dumps([facts, kinds, bits]).encode()).hexdigest()
        return Work(folder=root / f".ingest-{digest[:16]}", bits=bits, kinds=kinds)

    def part_folder(self, number: int) -> Path:
        """Gives the folder of one piece of the input."""
        return self.folder / f"part-{number:05d}"


def partition_bits(num_rows: int, memory_bytes: int) -> int:
    """Gives the logarithm of the number of partitions for about this many rows."""
    rows = max(1 << 10, min(_CACHED_ROWS, memory_bytes // _ROW_BYTES))
    return min(max(num_rows // rows, 0).bit_length(), _MAX_BITS)


def spill_pieces(
    work: Work, files: BehaviorFiles, options: BuildOptions, bad_rows: BadRows, progress: Progress
) -> list[tuple[SpillPart, bool]]:
    """Reads all files into parts; gives each with whether it was there already. Errors: `spill_piece`."""
    out: list[tuple[SpillPart, bool]] = []
    num_rows = 0
    step = "read behaviors"
    batch_rows = max(1 << 14, min(1 << 18, options.memory_bytes // options.processes // _ROW_BYTES))
    jobs = [
        (piece, work.part_folder(number), work.kinds, work.bits, bad_rows.max_bad_rows, batch_rows)
        for number, piece in enumerate(files.pieces)
    ]

    def tell(done: float, rows: int) -> None:
        progress(step, (len(out) + done) / len(jobs), num_rows + rows)

    with _pool(min(options.processes, len(jobs))) as pool:
        results = (spill_piece(*job, tell) for job in jobs) if pool is None else pool.map(_spill_quietly, jobs)
        try:
            for part, is_old in results:
                out.append((part, is_old))
                num_rows += part.num_rows
                for row in part.bad_rows:
                    bad_rows.add(row)
                progress(step, len(out) / len(jobs), num_rows)
        except TooManyBadRowsError as exc:
            bad_rows.rows += [row for row in exc.rows if row not in bad_rows.rows]
            raise
    return out


def encode_partitions(base: BaseWriter, plan: Plan, work: Work, processes: int, progress: Progress) -> Counts:
    """Builds all partitions and puts them into the base, in the order of their keys.

    Raises:
        CorruptRecordError: A record of the old base is damaged.
        StoreIOError: The disk is full.
    """
    counts = Counts(by_stream={})
    total = 1 << plan.bits
    with _pool(min(processes, total)) as pool:
        if pool is None:
            builder = PartitionBuilder(plan)
            results = (builder.build(partition) for partition in range(total))
        else:
            step = max(1, total // (processes * 8))
            ranges = [(plan, start, min(start + step, total), work.folder) for start in range(0, total, step)]
            results = (_load(found) for group in pool.map(_encode_range, ranges) for found in group)
        for partition, (block, part) in enumerate(results):
            base.put_block(block)
            counts += part
            progress("write", (partition + 1) / total, counts.num_behaviors)
    return counts


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor | None]:
    if processes <= 1:
        yield None
        return
    # Spawned, not forked: LMDB and Arrow have threads and locks that a fork would tear.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    except BrokenProcessPool as exc:
        raise StoreIOError(
            "a process of the build was killed, perhaps for want of memory; run it again with less --memory or one of "
            "the --processes"
        ) from exc
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Makes this process end with the one that started it, also when that is killed.

    It would wait for work without end, and before that write on into a part that the next run makes anew.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _spill_quietly(job: tuple[Piece, Path, FieldKinds, int, int, int]) -> tuple[SpillPart, bool]:
    return spill_piece(*job, lambda done, rows: None)


def _encode_range(job: tuple[Plan, int, int, Path]) -> list[tuple[Path, Counts]]:
    plan, start, stop, folder = job
    builder = PartitionBuilder(plan)
    out = []
    for partition in range(start, stop):
        block, counts = builder.build(partition)
        path = folder / f"encoded-{partition:05d}.npz"
        np.savez(path, users=block.users, offsets=block.offsets, data=block.data)
        out.append((path, counts))
    return out


def _load(found: tuple[Path, Counts]) -> tuple[EncodedBlock, Counts]:
    path, counts = found
    with np.load(path) as arrays:
        block = EncodedBlock(users=arrays["users"], offsets=arrays["offsets"], data=arrays["data"])
    path.unlink()
    return block, counts
