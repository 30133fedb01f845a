"""Some rows of an input file, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from store.dataset.bad_rows import BadRows, RowCheck
    from store.types import I64, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some rows of one file."""

    file: str
    """Name of the file in the dataset folder."""
    columns: dict[str, pa.Array]
    """By name; in a CSV file every column is of type string, and an empty value is null."""
    lines: I64
    """Line (CSV) or row (Parquet) of each row, as in `BadRow`. (N,)"""
    check: RowCheck
    """Marks the rows to refuse; the reader has marked some already."""
    is_text: bool
    """Whether the file has no column types."""
    fraction: float
    """Part of the file that has been read, 0 to 1."""

    def __len__(self) -> int:
        return len(self.lines)

    def report(self, bad_rows: BadRows) -> Bool:
        """Hands the refused rows on and gives a mask of the others.

        Raises:
            TooManyBadRowsError: See `BadRows`.
        """
        self.check.report(bad_rows, self.file, lambda row: int(self.lines[row]))
        return self.check.good()
