"""Stage one as several processes on one port; `python -m search_stage.workers FILE` is one of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from search_stage.config import SearchConfig
from store.serving import ServeOptions, Supervisor, end_with_supervisor, make_logger
from store.serving.place import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence


class WorkerSpec(BaseModel):
    """What one worker serves; arguments of `search_stage.server.serve`, as a file in the workers' private folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_root: Path
    index_root: Path | None
    config: SearchConfig
    options: ServeOptions
    append: bool

    def command(self, options: ServeOptions) -> Sequence[str]:
        """Writes the specification of one worker, and gives what to run."""
        assert options.worker is not None, "of a worker"
        file = options.worker.folder / f"worker-{options.worker.number}.spec.json"
        write_whole(file, self.model_copy(update={"options": options}).model_dump_json(indent=1))
        warnings = [f"-W{option}" for option in sys.warnoptions]
        return [sys.executable, *warnings, "-m", "search_stage.workers", str(file)]


def serve_with_workers(spec: WorkerSpec, count: int) -> int:
    """Serves until SIGTERM or SIGINT, as the only task of this process.

    Returns:
        Exit status: see `Supervisor.run`.

    Raises:
        InputError: The port is taken.
    """
    return Supervisor(count, spec.options, spec.command, make_logger("search")).run()


def main() -> None:
    """Runs one worker."""
    from search_stage.cli import told
    from search_stage.server import serve

    end_with_supervisor()
    spec = WorkerSpec.model_validate_json(Path(sys.argv[1]).read_bytes())
    with told():
        serve(spec.store_root, spec.index_root, spec.config, spec.options, append=spec.append)


if __name__ == "__main__":
    main()
