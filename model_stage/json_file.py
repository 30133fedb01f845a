"""Reports as JSON files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_json(path: Path | None, content: Mapping[str, object]) -> None:
    """Writes a report, where a path is given; numbers that are not finite, which JSON does not know, become null."""
    if path is not None:
        path.write_bytes(to_json(content, indent=1, inf_nan_mode="null") + b"\n")
