"""The manifest of a generation: what it lists, how its name follows from it, and what is refused in it."""

from __future__ import annotations

import calendar
import hashlib
import json
import time
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from store.errors import CorruptGenerationError, MissingGenerationError

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["store", "index", "model", "examples"]

FORMAT_VERSION = 1
"""Version of the layout of a root and of `manifest.json`; each kind versions its own files in `meta`."""

STAMP = "%Y%m%d-%H%M%S"
"""How a name tells the time."""
MANIFEST_FILE = "manifest.json"


class FileEntry(BaseModel):
    """What the manifest knows of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The table of contents of a generation; the last eight digits of its name are a hash over all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    format_version: int
    name: str
    created_ms: int
    """Milliseconds UTC."""
    files: dict[str, FileEntry]
    """By path relative to the generation, with forward slashes."""
    meta: dict[str, JsonValue]
    """Facts about the content, in words of the kind."""


def name_of(manifest: Manifest) -> str:
    """Gives the name that belongs to a manifest: its time, and a hash over all of it but the name."""
    content = json.dumps(manifest.model_dump(exclude={"name"}), sort_keys=True, separators=(",", ":"))
    stamp = time.strftime(STAMP, time.gmtime(manifest.created_ms / 1000))
    return f"{stamp}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def created_s(name: str) -> float | None:
    """Gives when a generation was made, seconds since the epoch, by its name alone; None = it is no such name."""
    stamp, _, _ = name.rpartition("-")
    try:
        return float(calendar.timegm(time.strptime(stamp, STAMP)))
    except ValueError:
        return None


def read_manifest(path: Path, advice: str) -> Manifest:
    """Reads a manifest and checks its form and its paths; whether the content is as it says, the caller checks.

    Args:
        path: The file.
        advice: What to run, for the messages.

    Raises:
        MissingGenerationError: There is no such file.
        CorruptGenerationError: It is no manifest, or a path is not the plain one of a file below the generation.
    """
    if not path.is_file():
        raise MissingGenerationError(f"{path}: no such file; {advice}")
    try:
        content = path.read_bytes()
        manifest = Manifest.model_validate_json(content)
        json.loads(content, object_pairs_hook=_distinct_keys)
    except _RepeatedKeyError as exc:
        raise CorruptGenerationError(f"{path}: {exc}; {advice}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CorruptGenerationError(f"{path}: {where}: {first['msg']}; {advice}") from exc
    except OSError as exc:
        raise CorruptGenerationError(f"{path}: cannot be read ({exc}); {advice}") from exc
    for relative in manifest.files:
        problem = _find_path_problem(relative)
        if problem:
            raise CorruptGenerationError(f"{path}: {relative!r} {problem}; {advice}")
    return manifest


class _RepeatedKeyError(Exception):
    """A JSON object has a key twice: two readers could take different values."""


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _RepeatedKeyError(f"{repeated!r} stands there twice")
    return found


def _find_path_problem(relative: str) -> str | None:
    """Gives why a path of a manifest is refused; None when it is the plain path of a file below the generation."""
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\\" in relative:
        return "leads out of the generation"
    if not relative.isprintable():
        return "holds characters that cannot be printed"
    if relative != "/".join(parts):
        return f"is another way to write {'/'.join(parts)!r}"
    return None
