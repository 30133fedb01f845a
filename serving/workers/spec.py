"""What a worker of a stage serves, as a file; `python -m MODULE FILE` runs one, or the process that forks them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from serving.options import ServeOptions
from serving.slot import write_whole
from serving.workers.fork_server import serve_fork_requests
from serving.workers.supervisor import Supervisor
from serving.workers.worker import end_with_supervisor
from store.errors import LookbackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger


class WorkerSpec(BaseModel, ABC):
    """What one worker serves: the arguments of a stage's `serve`, written to a file in the workers' private folder.

    Each stage has a subclass, in a module of its own whose `__main__` calls `run_worker`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: ServeOptions

    @abstractmethod
    def serve(self) -> None:
        """Serves until SIGTERM or SIGINT, as the only task of this process.

        Raises:
            LookbackError: It cannot be served; names the file and what to run.
        """

    @abstractmethod
    def warm_up(self) -> None:
        """Opens what `serve` would serve, uses it and closes it: libraries and kernels are then in memory.

        Must not leave a thread behind: this process is to be forked.

        Raises:
            LookbackError: As `serve`.
        """

    def command(self, options: ServeOptions) -> Sequence[str]:
        """Writes the specification of one worker, and gives what to run."""
        assert options.worker is not None, "of a worker"
        file = options.worker.folder / f"worker-{options.worker.number}.spec.json"
        write_whole(file, self.model_copy(update={"options": options}).model_dump_json(indent=1))
        warnings = [f"-W{option}" for option in sys.warnoptions]
        return [sys.executable, *warnings, "-m", type(self).__module__, str(file)]

    @classmethod
    def read(cls, file: str) -> Self:
        """Reads what `command` wrote."""
        return cls.model_validate_json(Path(file).read_bytes())


def serve_with_workers(spec: WorkerSpec, count: int, log: FilteringBoundLogger) -> int:
    """Serves until SIGTERM or SIGINT, as the only task of this process.

    Returns:
        Exit status: see `Supervisor.run`.

    Raises:
        InputError: The port is taken.
    """
    return Supervisor(count, spec.options, spec.command, log, fork_server=True).run()


def run_worker(kind: type[WorkerSpec], log: FilteringBoundLogger) -> None:
    """Runs one worker, or what forks workers, as the command line says; ends on an error as a command does."""
    from store.terminal import exit_on_error

    file, *standby = sys.argv[1:]
    if standby:
        _, control = standby
        with suppress(LookbackError):  # the worker that serves reports what is wrong
            kind.read(file).warm_up()
        file = serve_fork_requests(int(control), log)
        if not file:
            return
    end_with_supervisor()
    with exit_on_error():
        kind.read(file).serve()
