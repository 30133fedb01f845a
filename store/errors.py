"""Errors of the store, by who must act. `LookbackError` is the root of all packages' errors.

StoreError
|-- InputError            the caller: a value, file or row that breaks the input contract
|   |-- FieldError            a side-info field of a request that is refused
|   `-- TooManyBadRowsError   more bad input rows than `--max-bad-rows` allows
|-- GenerationError       the operator: a published artefact cannot be served
|   |-- MissingGenerationError   nothing published, or a listed file is gone
|   `-- CorruptGenerationError   a file does not match its manifest
|       `-- CorruptRecordError   one user's record does not match its own header or checksum
|-- StoreIOError          the operator: disk full, read-only file system
|   `-- MapFullError          the address space of an LMDB environment is used up
|-- LockedError           the operator: another process is at work there, the message says which
|-- StoreClosedError      the program: a store, snapshot or writer was used after it was closed, or after a fork
`-- DeadlineExceededError transient: the time of a request is spent
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class LookbackError(Exception):
    """Root of the errors of every package; itself never raised."""

    exit_status: ClassVar[int] = 1
    """With which it ends a command: 1 = the operator must act, 2 = the caller must."""


class StoreError(LookbackError):
    """Root of every error raised by `store`."""


class InputError(StoreError):
    """A value given by the caller breaks the input contract; the message names the field."""

    exit_status = 2


class FieldError(InputError):
    """A side-info field of a request is refused."""

    def __init__(self, message: str, part: str, field: str) -> None:
        """Keeps what is refused beside the message, which names it too.

        Args:
            message: What is wrong, starting with the field.
            part: What the field is of: "user", "candidate", "context", "behavior" or "event".
            field: Its name.
        """
        super().__init__(message, part, field)
        self.part = part
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """One refused row."""

    file: str
    """Name of the file in the dataset folder."""
    line: int
    """CSV: physical line, the header is line 1. Parquet: row, the first is 1."""
    reason: str
    """What is wrong, starting with the name of the column."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class TooManyBadRowsError(InputError):
    """An ingest found more bad rows than allowed; nothing was published."""

    def __init__(self, message: str, rows: tuple[BadRow, ...] = ()) -> None:
        """Keeps the refused rows, also across processes."""
        super().__init__(message, rows)
        self.rows = rows

    def __str__(self) -> str:
        return str(self.args[0])


class GenerationError(StoreError):
    """A generation cannot be opened; the message names the file and what to run."""


class OutdatedGenerationError(GenerationError):
    """A newer generation has taken the place of the open one, which lacks live events that were trimmed since."""


class MissingGenerationError(GenerationError):
    """Nothing is published here, or a file that the manifest lists is absent."""


class CorruptGenerationError(GenerationError):
    """A file's size, hash or structure differs from what its manifest says."""


class CorruptRecordError(CorruptGenerationError):
    """A user's record is truncated, damaged or of an unknown format version."""


class StoreIOError(StoreError):
    """The file system or LMDB refused a write; every earlier commit is intact."""


class MapFullError(StoreIOError):
    """An LMDB environment has used up its address space; every earlier commit is intact."""


class LockedError(StoreError):
    """A lock is held elsewhere; the message says who, since when, and what to do."""


class StoreClosedError(StoreError):
    """A store, a snapshot or a writer was used after it was closed, or a writer by a forked child."""


class DeadlineExceededError(StoreError):
    """The time of a request is spent; the rest of the work was not done."""


ADVICE_BY_ERRNO = {
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EFBIG: "a file may not grow so large here: raise `ulimit -f`, or use another file system",
    errno.EIO: "the disk fails: see the kernel's log",
    errno.ENOMEM: "the process may not have so much address space: raise `ulimit -v`",
    errno.EMFILE: "the process has too many files open: raise `ulimit -n`",
    errno.ENFILE: "the machine has too many files open: raise fs.file-max",
    errno.EACCES: "fix the permissions",
    errno.EPERM: "fix the permissions",
    errno.EROFS: "the file system is mounted read-only: mount it for writing, or give another path",
    errno.ENOENT: "give a path that is there",
    errno.ENOTDIR: "a part of the path is a file: give another path",
    errno.EISDIR: "a folder stands there: give another path",
    errno.ENAMETOOLONG: "the path is too long: give another one",
    errno.EINVAL: "the file system cannot map files: use a local one",
    errno.ENODEV: "the file system cannot map files: use a local one",
}
"""What to do about an error of the system."""


def advice_for(error: OSError) -> str:
    """Says what to do about an error of the system."""
    return ADVICE_BY_ERRNO.get(error.errno or 0, "see the kernel's log")


@contextmanager
def translate_os_errors(what: str) -> Iterator[None]:
    """Turns a refusal of the file system into `StoreIOError`, saying what could not be done."""
    try:
        yield
    except OSError as exc:
        raise StoreIOError(f"{what}: {exc}; {advice_for(exc)}, then run it again") from exc
