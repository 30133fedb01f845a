"""Examples in files: a .npy file per column, written bit by bit and mapped for reading.

Plain .npy because it is the one format of a well-kept library that both grows row by row and is mapped as one array:
docs/adr/0016-examples-as-mapped-columns.md.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np

from model_stage.encoding.batch import RequestColumns
from model_stage.training.examples import Example, Examples
from model_stage.training.history import Histories

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from store.types import AnyArray

FORMAT_VERSION = 1
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

    def write(self, examples: Iterable[Example]) -> None:
        """Writes examples, at least one, and ends the files.

        Raises:
            OSError: A file could not be written whole.
        """
        waiting: list[Example] = []
        size = 0
        for example in examples:
            waiting.append(example)
            size += len(example.encoded.pair_behavior) + len(example.encoded.behavior_node)
            size += 0 if example.history is None else len(example.history.node)
            if size >= WRITTEN_PAIRS:
                self._append(Examples.of(waiting))
                waiting, size = [], 0
        if waiting:
            self._append(Examples.of(waiting))
        for column in self._columns.values():
            column.end()

    def _append(self, examples: Examples) -> None:
        for name, array in columns_of(examples).items():
            if name not in self._columns:
                path = self._folder / f"{name}.npy"
                self._columns[name] = _Column(path, array, self._open, is_offsets=name.endswith(_OFFSETS))
            self._columns[name].append(array)


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


def columns_of(examples: Examples) -> dict[str, AnyArray]:
    """Gives the columns of examples by the names of their files."""
    columns = {name: getattr(examples.requests, name) for name in _REQUEST_COLUMNS}
    for at, (rows, offsets) in enumerate(examples.requests.multi_valued):
        columns |= {f"multi_valued.{at}.rows": rows, f"multi_valued.{at}.offsets": offsets}
    if examples.histories is not None:
        columns |= {f"history.{name}": getattr(examples.histories, name) for name in _HISTORY_COLUMNS}
    return {**columns, "labels": examples.labels, "rows": examples.rows}


def _examples(columns: Mapping[str, AnyArray]) -> Examples:
    lists = sum(name.startswith("multi_valued.") for name in columns) // 2
    histories = {name: columns[f"history.{name}"] for name in _HISTORY_COLUMNS if f"history.{name}" in columns}
    return Examples(
        requests=RequestColumns(
            multi_valued=tuple(
                (columns[f"multi_valued.{at}.rows"], columns[f"multi_valued.{at}.offsets"]) for at in range(lists)
            ),
            **{name: columns[name] for name in _REQUEST_COLUMNS},
        ),
        labels=columns["labels"],
        rows=columns["rows"],
        histories=Histories(**histories) if histories else None,
    )


_REQUEST_COLUMNS = tuple(name for name in RequestColumns.__slots__ if name != "multi_valued")
_HISTORY_COLUMNS = tuple(Histories.__slots__)
