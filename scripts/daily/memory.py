"""What the job remembers from one run to the next: which input is done, and what became of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from store.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


class Memory(BaseModel):
    """Written whole after every step, so that a run that was killed goes on behind the last one that was finished."""

    model_config = ConfigDict(extra="forbid")

    ingested: str = ""
    """Digest of the incoming files that the store holds."""
    key: str = ""
    """Digest of what the candidate was made of."""
    candidate: str = ""
    """Name of the bundle that waits in the job's own folder; empty = it is not trained."""
    decision: dict[str, Any] | None = None
    """What the gate said of it; None = it was not asked yet."""
    before: str = ""
    """Bundle that was served when the candidate was published, to go back to; empty = it is not published."""
    published: str = ""
    """Its name where it is served; empty = it is not."""
    verified: bool = False
    """Whether it was seen to answer."""

    @staticmethod
    def read(file: Path) -> Memory:
        """Reads what was written; nothing where there is no file.

        Raises:
            InputError: The file holds something else.
        """
        try:
            return Memory.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError, ValidationError) as error:
            raise InputError(f"{file}: is not what the daily job writes ({error}); remove it to begin anew") from error

    def write(self, file: Path) -> None:
        """Writes all of it at once: a reader finds it as it was or as it is."""
        aside = file.with_suffix(".new")
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(self.model_dump_json(indent=1))
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
