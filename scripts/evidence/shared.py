"""What all runs of a set share: its dataset, the store, the first pass's attention table, the index, the examples."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_stage.training.example_folder import content_digest
from scripts.evidence.code import code_digest
from scripts.evidence.configuration import configuration
from scripts.evidence.needle import needle_recall
from scripts.pipeline import ATTENTION, CONFIGS, publish_search
from scripts.servers import Roots
from store.terminal import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.evidence.sets import EvidenceSet
    from scripts.pipeline import OnProgress

_DONE = "shared.json"
"""Written last: what stands beside it is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Where it lies, and what it depends on."""

    data: Path
    """Dataset directory."""
    data_digest: str
    config: Path
    """Folder of the set's configuration."""
    folder: Path
    """Everything else."""
    digest: str
    """Of the dataset, the configuration, and the code that made the store, the attention table and the index."""

    @property
    def roots(self) -> Roots:
        """Of store and index; nothing is published at `bundle`."""
        return Roots(
            store=self.folder / "store", index=self.folder / "index", bundle=self.folder / "bundles", config=self.config
        )

    @property
    def attention(self) -> Path:
        """Root of the bundle whose attention table all networks keep."""
        return self.folder / ATTENTION

    @property
    def needle_recall(self) -> dict[str, float]:
        """Share of the needles that search finds, by target; empty in a set without needles, or not made yet."""
        file = self.folder / _DONE
        found: dict[str, float] = (
            json.loads(file.read_text(encoding="utf-8"))["needle_recall"] if file.is_file() else {}
        )
        return found

    def examples(self, search_digest: str) -> Path:
        """Gives the folder of the examples that are retrieved in one way."""
        return self.folder / "examples" / search_digest[:12]


def data_of(one: EvidenceSet, work: Path) -> Path:
    """Gives the dataset directory of a set, made now if it is not there as the code of today makes it.

    Raises:
        InputError: The original files are absent.
    """
    data = work / one.name / f"data-{code_digest(one.made_by)[:12]}"
    if not (data / "counts.json").is_file():
        one.make(data)
    return data


def shared_of(one: EvidenceSet, data: Path, work: Path) -> Shared:
    """Says where what the runs of a set share lies, or will lie once `prepare` has made it."""
    config, data_digest = CONFIGS / one.config, _files_digest(data)
    digest = content_digest([data_digest, configuration(config).digest, code_digest("scripts.pipeline")])
    return Shared(
        data=data, data_digest=data_digest, config=config, folder=work / one.name / digest[:12], digest=digest
    )


def prepare(shared: Shared, on_progress: OnProgress) -> None:
    """Makes the store, the attention table and the index, unless they are there."""
    if (shared.folder / _DONE).is_file():
        return
    started_s = time.monotonic()
    publish_search(shared.data, shared.config, shared.folder, on_progress)
    shared.folder.mkdir(parents=True, exist_ok=True)
    done = {"digest": shared.digest, "seconds": round(time.monotonic() - started_s, 1)}
    write_json(shared.folder / _DONE, {**done, "needle_recall": needle_recall(shared)})


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:32]
