"""Examples in files: a .npy file per column, written bit by bit and mapped for reading.

Plain .npy because it is the one format of a well-kept library that both grows row by row and is mapped as one array:
docs/adr/0016-examples-as-mapped-columns.md.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from model_stage.encoding.batch import RequestColumns
from model_stage.training.examples import Example, Examples
from model_stage.training.history import Histories, UserRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from store.types import AnyArray

V = TypeVar("V")
FORMAT_VERSION = 2
"""Version of the columns and of what they hold; a change of what retrieval or encoding makes of the same input counts
as well: files of another version are not read."""
WRITTEN_PAIRS = 1 << 20
"""Pairs and behaviors to gather before they are written, about."""
_OFFSETS = "offsets"
"""How the names of columns end that say where lists begin: of these, each part goes on where the one before ended."""


class ExampleWriter:
    """Writes examples into the files of a folder; memory does not depend on how many there are. A context manager.

    Args:
        folder: Where to put the files; there are none yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._open, self._columns = folder, ExitStack(), dict[str, _Column]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(
        self, examples: Iterable[Example], users: Iterable[UserRows] | None = None, *, whole: bool = False
    ) -> None:
        """Writes examples, at least one, and ends the files.

        Args:
            examples: Taken after all users.
            users: What the histories of the examples are spans of; None = they have none.
            whole: Whether the behaviors of each request are its history: they are written as that alone.

        Raises:
            OSError: A file could not be written whole.
        """
        for rows in _gathered(users or (), len):
            joined = UserRows.join(rows)
            self._append({f"{_USERS}{name}": getattr(joined, name) for name in _USER_COLUMNS})
        for part in _gathered(examples, _size):
            self._append(columns_of(part, whole=whole))
        for column in self._columns.values():
            column.end()

    def _append(self, columns: Mapping[str, AnyArray]) -> None:
        for name, array in columns.items():
            if name not in self._columns:
                path = self._folder / f"{name}.npy"
                self._columns[name] = _Column(path, array, self._open, is_offsets=name.endswith(_OFFSETS))
            self._columns[name].append(array)


def _gathered(parts: Iterable[V], size: Callable[[V], int]) -> Iterator[list[V]]:
    """Gives parts in lists of `WRITTEN_PAIRS`, about."""
    waiting, total = list[V](), 0
    for part in parts:
        waiting.append(part)
        total += size(part)
        if total >= WRITTEN_PAIRS:
            yield waiting
            waiting, total = [], 0
    if waiting:
        yield waiting


def _size(example: Example) -> int:
    return len(example.encoded.pair_behavior) + len(example.encoded.behavior_node)


class _Column:
    """A .npy file that grows; its header says how many rows there are once it has ended."""

    def __init__(self, path: Path, like: AnyArray, opened: ExitStack, *, is_offsets: bool) -> None:
        self._file = opened.enter_context(path.open("wb"))
        self._dtype, self._shape = like.dtype, like.shape[1:]
        self._rows, self._last, self._is_offsets = 0, 0, is_offsets
        self._write_header()
        self._start = self._file.tell()
        if is_offsets:
            self._write(np.zeros(1, np.int64))

    def append(self, array: AnyArray) -> None:
        assert (array.dtype, array.shape[1:]) == (self._dtype, self._shape)
        if self._is_offsets:
            array = array[1:] + self._last
            self._last = int(array[-1])
        self._write(array)

    def end(self) -> None:
        self._file.seek(0)
        self._write_header()  # as long as before: numpy leaves room for the number of rows to grow
        assert self._file.tell() == self._start
        self._file.flush()

    def _write(self, array: AnyArray) -> None:
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._rows += len(array)

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def read_examples(folder: Path) -> Examples:
    """Maps what an `ExampleWriter` wrote in a folder; reads no more than is asked for of it.

    Raises:
        OSError, ValueError: A file is not what was written.
    """
    paths = sorted(folder.glob("*.npy"))
    return _examples({path.name.removesuffix(".npy"): np.asarray(np.load(path, mmap_mode="r")) for path in paths})


def columns_of(examples: Sequence[Example], *, whole: bool = False) -> dict[str, AnyArray]:
    """Gives the columns of examples by the names of their files.

    Args:
        examples: At least one.
        whole: See `ExampleWriter.write`.
    """
    requests = RequestColumns.of([example.encoded for example in examples])
    left_out = _BEHAVIOR_COLUMNS if whole else ()
    columns = {name: getattr(requests, name) for name in _REQUEST_COLUMNS if name not in left_out}
    for at, (rows, offsets) in enumerate(requests.multi_valued):
        columns |= {f"multi_valued.{at}.rows": rows, f"multi_valued.{at}.offsets": offsets}
    if spans := [example.history for example in examples if example.history is not None]:
        assert len(spans) == len(examples)
        first, stop, as_of_ms = np.array(spans, np.int64).T
        columns |= {"history.first": first, "history.stop": stop, "history.as_of_ms": as_of_ms}
    labels, of_impressions = (
        np.concatenate([getattr(example, name) for example in examples]) for name in ("labels", "rows")
    )
    return {**columns, "labels": labels, "rows": of_impressions}


def _examples(columns: Mapping[str, AnyArray]) -> Examples:
    lists = sum(name.startswith("multi_valued.") for name in columns) // 2
    whole = "behavior_offsets" not in columns
    given = _no_behaviors(len(columns["num_newest"])) | dict(columns)
    return Examples(
        requests=RequestColumns(
            multi_valued=tuple(
                (columns[f"multi_valued.{at}.rows"], columns[f"multi_valued.{at}.offsets"]) for at in range(lists)
            ),
            **{name: given[name] for name in _REQUEST_COLUMNS},
        ),
        labels=columns["labels"],
        rows=columns["rows"],
        histories=_histories(columns) if "history.first" in columns else None,
        whole=whole,
    )


def _histories(columns: Mapping[str, AnyArray]) -> Histories:
    return Histories(
        rows=UserRows(**{name: columns[f"{_USERS}{name}"] for name in _USER_COLUMNS}),
        first=columns["history.first"],
        stop=columns["history.stop"],
        as_of_ms=columns["history.as_of_ms"],
    )


def _no_behaviors(num_requests: int) -> dict[str, AnyArray]:
    """Gives the columns of requests whose behaviors stand elsewhere."""
    return {
        "behavior_offsets": np.zeros(num_requests + 1, np.int64),
        "behavior_node": np.empty(0, np.int32),
        "behavior_side": np.empty((0, 0), np.int32),
        "interval_ms": np.empty(0, np.int64),
    }


_REQUEST_COLUMNS = tuple(name for name in RequestColumns.__slots__ if name != "multi_valued")
_BEHAVIOR_COLUMNS = tuple(_no_behaviors(0))
_USER_COLUMNS = tuple(UserRows.__slots__)
_USERS = "user."
"""How the names of columns begin that users share."""
