"""Writes a dataset directory whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def dataset_directory(out: Path) -> Iterator[Path]:
    """Gives a temporary directory beside `out` that takes its place when the block ends without an error.

    On an error the temporary directory is removed and an earlier `out` stays as it was. An existing `out` is replaced
    only if it is empty or was written by this function (it holds `splits.json`).

    Raises:
        FileExistsError: `out` holds something that is not a dataset directory.
    """
    if out.exists() and any(out.iterdir()) and not (out / "splits.json").is_file():
        raise FileExistsError(f"{out} is not empty and not a dataset directory (no splits.json): name another one")
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield building
        building.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Writes a JSON object with stable formatting."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
