r"""Generations: immutable, published versions of an artefact. Shared by store, index and bundle; knows no content.

A root holds the generations and names the one to serve::

    ROOT/
      CURRENT                              20261122-093000-1f0c9a2e\n
      generations/20261122-093000-1f0c9a2e/
        manifest.json                      kind, files with size and sha256, meta
        ...                                what the manifest lists, and nothing else
      .building-xxxxxxxx/                  a generation being written; never served
"""

from __future__ import annotations

import calendar
import hashlib
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from store.errors import CorruptGenerationError, MissingGenerationError, translate_os_errors
from store.publishing.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    STAMP,
    FileEntry,
    Kind,
    Manifest,
    name_of,
    read_manifest,
)

GENERATION_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
"""What the names of generations look like; their order is that of publication, to the second."""
CURRENT_FILE = "CURRENT"
"""File of a root that names the generation to serve."""
_BLOCK_BYTES = 1 << 20
_REBUILD: dict[Kind, str] = {
    "store": "lookback-store ingest --replace --input DIR --store {root}",
    "index": "lookback-search build-index --export FILE --store ROOT --index {root}",
    "model": "lookback-model train (it publishes to {root})",
    "examples": "lookback-model train (it writes them anew)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedGeneration:
    """A generation whose files have been checked against its manifest."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of the generation."""
        return self.manifest.name


class GenerationWriter:
    """Builds one generation aside and publishes it at once: readers see all of it or nothing.

    Files are written under `path`, facts are put in `meta`, then `publish` hashes and syncs everything, renames the
    folder into place and swaps `CURRENT`. Leaving the context without `publish` removes what was written. Not
    thread-safe; two writers on one root do not disturb one another, the last to publish is current.

    Example::

        with GenerationWriter(root, kind="store") as writer:
            np.save(writer.path / "parent.npy", parent)
            writer.meta["num_items"] = 3
            name = writer.publish()
    """

    def __init__(self, root: Path, *, kind: Kind) -> None:
        self._root = root
        self._kind: Kind = kind
        self._path: Path | None = None
        self.meta: dict[str, JsonValue] = {}

    @property
    def path(self) -> Path:
        """Folder to write the generation's files in; exists between entering the context and `publish`."""
        assert self._path is not None, "not inside the context, or already published"
        return self._path

    def __enter__(self) -> Self:
        with translate_os_errors(f"{self._root}: cannot make a folder for a new generation"):
            (self._root / "generations").mkdir(parents=True, exist_ok=True)
            self._path = Path(tempfile.mkdtemp(prefix=".building-", dir=self._root))
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None

    def publish(self) -> str:
        """Makes the generation durable and current; gives its name.

        Raises:
            StoreIOError: The file system refused; `CURRENT` still names the generation it named before.
        """
        with translate_os_errors(f"{self._root}: cannot publish the new generation"):
            created_ms = _next_time(self._root / "generations")
            files = _hash_and_sync(self.path)
            draft = Manifest(
                kind=self._kind,
                format_version=FORMAT_VERSION,
                name="",
                created_ms=created_ms,
                files=files,
                meta=self.meta,
            )
            manifest = draft.model_copy(update={"name": name_of(draft)})
            manifest_path = self.path / MANIFEST_FILE
            manifest_path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
            # mkdtemp makes folders private; a generation is read by servers that run as another user.
            self.path.chmod(0o755)
            folders = [path for path in self.path.rglob("*") if path.is_dir()]
            for path in (manifest_path, *folders, self.path):
                sync_path(path)
            generations = self._root / "generations"
            self.path.rename(generations / manifest.name)
            self._path = None
            sync_path(generations)
            swap_current(self._root, manifest.name)
        return manifest.name


def current_name(root: Path, kind: Kind) -> str:
    """Gives the name of the generation that `CURRENT` points at; reads one small file.

    Raises:
        MissingGenerationError: Nothing is published under this root.
        CorruptGenerationError: `CURRENT` does not hold a generation's name.
    """
    path = root / CURRENT_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        what = f"{path}: no such file" if root.is_dir() else f"{root}: no such folder; is the path right? If it is"
        raise MissingGenerationError(
            f"{what}, no {kind} generation is published here; run `{_rebuild(root, kind)}`"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise CorruptGenerationError(f"{path}: cannot be read ({exc}); run `{_rebuild(root, kind)}`") from exc
    if GENERATION_NAME.fullmatch(text) is None:
        raise CorruptGenerationError(
            f"{path}: {text!r} is no generation's name; write one of {root / 'generations'} into it, "
            f"or run `{_rebuild(root, kind)}`"
        )
    return text


def open_generation(root: Path, kind: Kind, name: str | None = None, *, check_content: bool = True) -> OpenedGeneration:
    """Checks a generation against its manifest and gives where it lies.

    Every listed file is read once to check its size and sha256. Nothing is kept open.

    Args:
        root: The root of this kind of artefact.
        kind: What must have been published there.
        name: Generation to open; None = the one that `CURRENT` names.
        check_content: Whether to check the files; without it only the manifest is, and no file may be used.

    Raises:
        MissingGenerationError: No such root, generation or listed file.
        CorruptGenerationError: Another kind or format version than expected, or a file that does not match; the
            message names the file and what to run.
    """
    name = current_name(root, kind) if name is None else name
    path = root / "generations" / name
    advice = f"run `{_rebuild(root, kind)}` to publish a sound one"
    if GENERATION_NAME.fullmatch(name) is None or not path.is_dir():
        raise MissingGenerationError(f"{path}: no such {kind} generation; {_there_are(root) or advice}")
    link = _find_link(path)
    if link is not None:
        raise CorruptGenerationError(f"{link}: is a symbolic link; {advice}")
    manifest = read_manifest(path / MANIFEST_FILE, advice)
    if manifest.format_version != FORMAT_VERSION:
        raise CorruptGenerationError(
            f"{path / MANIFEST_FILE}: format version {manifest.format_version}, this program reads {FORMAT_VERSION}; "
            f"upgrade the program, or {advice}"
        )
    if manifest.kind != kind:
        raise CorruptGenerationError(
            f"{path / MANIFEST_FILE}: holds a {manifest.kind} generation, a {kind} generation is needed; "
            f"give the root of the {kind}"
        )
    if manifest.name != name or name_of(manifest)[-8:] != name[-8:]:
        raise CorruptGenerationError(f"{path / MANIFEST_FILE}: its content does not match its name; {advice}")
    if check_content:
        for relative, entry in manifest.files.items():
            _check_file(path, relative, entry, advice)
    return OpenedGeneration(path=path, manifest=manifest)


def _there_are(root: Path) -> str:
    folder = root / "generations"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return f"there are {', '.join(names)}" if names else ""


def _rebuild(root: Path, kind: Kind) -> str:
    return _REBUILD[kind].format(root=root)


def _next_time(generations: Path) -> int:
    """Gives the time for a new generation: now, but behind every other one, also if the clock was set back."""
    now_ms = time.time_ns() // 1_000_000
    names = [path.name for path in generations.iterdir() if GENERATION_NAME.fullmatch(path.name)]
    if not names:
        return now_ms
    newest = calendar.timegm(time.strptime(max(names)[:15], STAMP))
    return max(now_ms, (newest + 1) * 1000)


def _find_link(folder: Path) -> Path | None:
    """Gives a symbolic link among a folder and everything in it, if there is one."""
    if folder.is_symlink():
        return folder
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink():
                return path
    return None


def _check_file(generation: Path, relative: str, entry: FileEntry, advice: str) -> None:
    path = generation / relative
    if not path.is_file():
        raise MissingGenerationError(f"{path}: listed in the manifest, but there is no such file; {advice}")
    size = path.stat().st_size
    if size != entry.size:
        raise CorruptGenerationError(f"{path}: {size} bytes, the manifest says {entry.size}; {advice}")
    try:
        digest = _sha256(path)
    except OSError as exc:
        raise CorruptGenerationError(f"{path}: cannot be read ({exc}); {advice}") from exc
    if digest != entry.sha256:
        raise CorruptGenerationError(f"{path}: its content does not match the manifest's sha256; {advice}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _hash_and_sync(folder: Path) -> dict[str, FileEntry]:
    """Gives a manifest's entries of all files in a folder, which are durable then; their folders are not yet."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    # Hashing computes and syncing waits for the disk: each goes on while the other does.
    with ThreadPoolExecutor(1) as beside:
        synced = [beside.submit(sync_path, path) for path in paths]
        files = {
            path.relative_to(folder).as_posix(): FileEntry(size=path.stat().st_size, sha256=_sha256(path))
            for path in paths
        }
        for sync in synced:
            sync.result()
    return files


def sync_path(path: Path) -> None:
    """Makes the content of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap_current(root: Path, name: str) -> None:
    """Makes a generation the current one, at once and durably. Nothing is checked.

    Raises:
        OSError: The file system refused; `CURRENT` is as it was.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=".current-", dir=root)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(name + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(root / CURRENT_FILE)
    sync_path(root)
