"""Stage one as several processes on one port; `python -m search_stage.serving.workers FILE` is one of them."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from search_stage.config import SearchConfig
from search_stage.errors import SearchError
from serving import ServeOptions, Supervisor, end_with_supervisor, make_logger
from serving.slot import write_whole
from serving.workers.fork_server import serve_fork_requests
from store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence


class WorkerSpec(BaseModel):
    """What one worker serves; arguments of `serve`, as a file in their private folder."""

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
        return [sys.executable, *warnings, "-m", "search_stage.serving.workers", str(file)]


def serve_with_workers(spec: WorkerSpec, count: int) -> int:
    """Serves until SIGTERM or SIGINT, as the only task of this process.

    Returns:
        Exit status: see `Supervisor.run`.

    Raises:
        InputError: The port is taken.
    """
    return Supervisor(count, spec.options, spec.command, make_logger("search"), fork_server=True).run()


def main() -> None:
    """Runs one worker, or what forks workers."""
    from search_stage.serving.server import serve, warm_up_process
    from store.terminal import exit_on_error

    file, *standby = sys.argv[1:]
    if standby:
        _, control = standby
        spec = _read(file)
        with suppress(SearchError, StoreError):  # the worker that serves reports what is wrong
            warm_up_process(spec.store_root, spec.index_root, spec.config)
        file = serve_fork_requests(int(control), make_logger("search"))
        if not file:
            return
    end_with_supervisor()
    spec = _read(file)
    with exit_on_error():
        serve(spec.store_root, spec.index_root, spec.config, spec.options, append=spec.append)


def _read(file: str) -> WorkerSpec:
    return WorkerSpec.model_validate_json(Path(file).read_bytes())


if __name__ == "__main__":
    main()
