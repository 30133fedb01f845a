"""Rows that break the input contract: collected with file, line and reason, and never ingested by halves."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from store.errors import BadRow, TooManyBadRowsError, translate_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from store.types import Bool

_SHOWN = 5


@dataclass(slots=True)
class BadRows:
    """Collects refused rows until there are more than allowed."""

    max_bad_rows: int
    advice: str = "correct the input, or allow more with --max-bad-rows"
    """What to do about them."""
    rows: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Notes one refused row.

        Raises:
            TooManyBadRowsError: It is one more than allowed.
        """
        self.rows.append(row)
        if len(self.rows) > self.max_bad_rows:
            shown = "\n".join(f"  {bad}" for bad in self.rows[:_SHOWN])
            more = "\n  ..." if len(self.rows) > _SHOWN else ""
            count = f"more than {self.max_bad_rows} bad rows, nothing was published"
            raise TooManyBadRowsError(f"{count}:\n{shown}{more}\n{self.advice}", tuple(self.rows))

    def write(self, path: Path) -> None:
        """Writes the refused rows as a CSV file with the columns file, line, reason."""
        with (
            translate_os_errors(f"{path}: cannot write the list of bad rows"),
            path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("file", "line", "reason"))
            writer.writerows((row.file, row.line, row.reason) for row in self.rows)


class RowCheck:
    """Marks the rows of one batch that must be refused, each for the first reason given."""

    def __init__(self, num_rows: int) -> None:
        self._reason = np.zeros(num_rows, np.int32)
        self._reasons: list[Callable[[int], str]] = []

    def refuse(self, mask: Bool, reason: Callable[[int], str]) -> None:
        """Marks rows.

        Args:
            mask: Rows to refuse. (N,)
            reason: Gives the reason of one of them; called only for rows that end up reported.
        """
        if mask.any():
            self._reasons.append(reason)
            self._reason[mask & (self._reason == 0)] = len(self._reasons)

    @property
    def has_refused(self) -> bool:
        """Whether any row was refused."""
        return bool(self._reasons) and bool(self._reason.any())

    def good(self) -> Bool:
        """Gives a mask of the rows not refused."""
        mask: Bool = self._reason == 0
        return mask

    def only(self, keep: Bool) -> RowCheck:
        """Gives the marks of some rows as those of a batch of their own."""
        rows = np.flatnonzero(keep)
        kept = RowCheck(len(rows))
        kept._reason = self._reason[rows]
        kept._reasons = [partial(_call_at, reason, lambda row: int(rows[row])) for reason in self._reasons]
        return kept

    @staticmethod
    def join(checks: Sequence[RowCheck]) -> RowCheck:
        """Gives the marks of consecutive batches as those of one."""
        joined = RowCheck(0)
        for check in checks:
            start, base = len(joined._reason), len(joined._reasons)
            joined._reasons += [partial(_call_at, reason, (-start).__add__) for reason in check._reasons]
            marks = np.where(check._reason > 0, check._reason + base, 0).astype(np.int32)
            joined._reason = np.concatenate((joined._reason, marks))
        return joined

    def report(self, bad_rows: BadRows, file: str, line: Callable[[int], int]) -> None:
        """Hands the refused rows on, in the order of the file."""
        for row in np.flatnonzero(self._reason).tolist():
            reason = self._reasons[int(self._reason[row]) - 1](row)
            bad_rows.add(BadRow(file=file, line=line(row), reason=reason))


def _call_at(reason: Callable[[int], str], position: Callable[[int], int], row: int) -> str:
    return reason(position(row))
