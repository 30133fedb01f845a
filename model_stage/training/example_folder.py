"""Sets of examples that runs share: each is written once, and read by every run that would retrieve the same.

A set is a published generation under the root of its split, `DIR/train`, `DIR/validation` or `DIR/test`, and its
manifest says what it depends on::

    DIR/train/generations/20261130-193000-1f0c9a2e/   manifest.json  labels.npy  pair_behavior.npy  ...
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from model_stage.training.example_files import FORMAT_VERSION, ExampleWriter, read_examples
from store.errors import GenerationError
from store.publishing.generation import GenerationWriter, open_generation
from store.publishing.kept import kept_generations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model_stage.training.examples import Example, Examples
    from model_stage.training.history import UserRows
    from store.publishing.manifest import Kind

_log = logging.getLogger(__name__)

KIND: Final = "examples"
KEPT_SETS = 4
"""Sets of a split that stay in a folder when another one is written: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleKey:
    """What a set of examples depends on: equal keys, equal examples."""

    split: str
    impressions: str
    """Digest of the impressions of the split, their labels and fields."""
    schema: str
    vocabularies: str
    """Digests of both."""
    newest: int
    """How many of the user's newest behaviors are retrieved besides."""
    histories: str
    """Which whole histories stand beside the requests; empty = none."""
    store: str
    """Digest of the files of the store generation."""
    delta_sequence: int
    """The last event or deletion behind it."""
    search: str
    """Digest of the configuration of search and of the files of the index."""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleFolder:
    """A folder of example sets."""

    path: Path
    search: str = ""
    """Digest of what the searches are made with that its caller retrieves through: configuration, files of the index.
    Matters where sets are kept."""

    def find(self, key: ExampleKey) -> Examples | None:
        """Gives the set of a key, checked against its manifest; None where there is none or it is damaged.

        A damaged set is removed, and a warning says why.
        """
        root = self.path / key.split
        for name in reversed(kept_generations(root)):
            try:
                if open_generation(root, KIND, name, check_content=False).manifest.meta == asdict(key):
                    return read_examples(open_generation(root, KIND, name).path)
            except (GenerationError, ValueError, OSError) as error:
                _log.warning("a set of examples is damaged and removed; they are retrieved anew: %s", error)
                shutil.rmtree(root / "generations" / name, ignore_errors=True)
        return None

    def write(
        self,
        key: ExampleKey,
        examples: Iterable[Example],
        users: Iterable[UserRows] | None = None,
        *,
        whole: bool = False,
    ) -> Examples:
        """Writes the set of a key while its examples are made, and gives it mapped; it appears whole or not at all.

        The oldest sets beyond `KEPT_SETS` are removed; who has mapped one keeps what it has.

        Args:
            key: What the examples depend on.
            examples: As `ExampleWriter.write`, and so the others.
            users: See there.
            whole: See there.

        Raises:
            StoreIOError: The file system refused.
        """
        root = self.path / key.split
        with GenerationWriter(root, kind=KIND) as writer:
            with ExampleWriter(writer.path) as files:
                files.write(examples, users, whole=whole)
            writer.meta.update(asdict(key))
            name = writer.publish()
        for old in kept_generations(root)[:-KEPT_SETS]:
            shutil.rmtree(root / "generations" / old, ignore_errors=True)
        return read_examples(root / "generations" / name)


@contextmanager
def opened_folder(folder: ExampleFolder | None, beside: Path | None = None) -> Iterator[ExampleFolder]:
    """Gives a folder of example sets; without one, a folder that is removed when the block ends.

    Args:
        folder: Where sets are kept; None = nowhere.
        beside: Where to make the one that is removed; None = where the system keeps such folders.
    """
    if folder is not None:
        yield folder
        return
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".examples-", dir=beside) as made:
        yield ExampleFolder(path=Path(made))


def files_digest(root: Path, kind: Kind, name: str) -> str:
    """Gives a hash of the content of a published generation, whatever its name and time.

    Raises:
        store.errors.GenerationError: There is no such generation.
    """
    files = open_generation(root, kind, name, check_content=False).manifest.files
    return content_digest({path: entry.sha256 for path, entry in files.items()})


def content_digest(content: object) -> str:
    """Gives a hash of all that stands in nested dataclasses, mappings, lists, arrays and plain values.

    Of a dataclass what is compared counts. Any other object would hash as where it lies in memory, and is a mistake.
    """
    digest = xxhash.xxh3_128()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, content: Any) -> None:  # noqa: ANN401 -- xxhash has no types, and content is anything
    match content:
        case np.ndarray():
            digest.update(f"{content.dtype.str}{content.shape}".encode())
            digest.update(np.ascontiguousarray(content).reshape(-1).view(np.uint8).data)
        case Mapping():
            _add(digest, [part for name in sorted(content) for part in (name, content[name])])
        case list() | tuple():
            digest.update(f"{len(content)}".encode())
            for part in content:
                _add(digest, part)
        case _ if is_dataclass(content):
            _add(digest, [getattr(content, field.name) for field in fields(content) if field.compare])
        case _:
            assert isinstance(content, str | int | float | None), content
            digest.update(f"{content!r};".encode())
