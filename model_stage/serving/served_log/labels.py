"""Makes a dataset for training of a served log and of what became of its candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_stage.serving.served_log.tables import FORMAT, FORMAT_KEY
from store.dataset.impressions import LABEL, read_served_labels
from store.errors import InputError, translate_os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from store.dataset.impressions import ServedLabels


def join_labels(log: Path, labels_file: Path, to: Path, absent: float) -> tuple[int, int]:
    """Writes the impressions of a log with their labels.

    Args:
        log: Folder of the log.
        labels_file: A table of `request_id`, `item` and `label_<target>` columns.
        to: Folder to write `impressions-*.parquet` to.
        absent: Label of candidates that the table does not name; NaN = unknown.

    Returns:
        Number of impressions, and how many of them the table names.

    Raises:
        InputError: A file is not what it should be, or the folder is the log itself.
    """
    if to.resolve() == log.resolve():
        raise InputError(f"{to}: is the log itself; name another folder")
    files = sorted(log.glob("impressions-*.parquet"))
    if not files:
        raise InputError(f"{log}: holds no impressions-*.parquet; give the folder that `serve --served-log` writes")
    labels = read_served_labels(labels_file)
    row_of = {pair: row for row, pair in enumerate(zip(labels.request_id, labels.item.tolist(), strict=True))}
    num_rows = num_known = 0
    with translate_os_errors(f"{to}: cannot write"):
        to.mkdir(parents=True, exist_ok=True)
        for file in files:
            table, known = _with_labels(file, labels, row_of, absent)
            pq.write_table(table, to / file.name, compression="zstd")
            num_rows += table.num_rows
            num_known += known
    return num_rows, num_known


def _with_labels(
    file: Path, labels: ServedLabels, row_of: dict[tuple[str, int], int], absent: float
) -> tuple[pa.Table, int]:
    try:
        table = pq.read_table(file, use_threads=False)
    except (OSError, pa.ArrowException) as exc:
        raise InputError(f"{file}: cannot be read as a file of a served log: {exc}") from exc
    if (table.schema.metadata or {}).get(FORMAT_KEY) != FORMAT:
        raise InputError(f"{file}: is no file of impressions that this version of `serve --served-log` has written")
    pairs = zip(table["served_request_id"].to_pylist(), table["item"].to_pylist(), strict=True)
    row = np.array([row_of.get(pair, -1) for pair in pairs], np.int64)
    for column, target in enumerate(labels.targets):
        values = np.where(row >= 0, labels.labels[row, column], np.float32(absent))
        table = table.append_column(f"{LABEL}{target}", pa.array(values, pa.float32(), from_pandas=True))
    return table, int(np.count_nonzero(row >= 0))
