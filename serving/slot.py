"""Identity and files of one worker."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FIRST = 1
"""Number of the worker that does what only one may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSlot:
    """Which worker of how many a process is, and the private folder in which they meet.

    FOLDER/worker-2.sock    the second worker's socket for the other workers
    FOLDER/worker-2.json    its `WorkerReport`, once it serves
    FOLDER/turn.lock        held by the one that opens a new generation
    FOLDER/served.json      names of the generations that a worker served last
    """

    number: int
    """From 1."""
    count: int
    folder: Path

    def socket(self, number: int) -> str:
        """Gives the address of a worker's private socket, as gRPC wants it written."""
        return f"unix:{self.folder}/worker-{number}.sock"

    @property
    def report(self) -> Path:
        """File that this worker writes once it serves."""
        return self.folder / f"worker-{self.number}.json"

    @property
    def turn(self) -> Path:
        """File whose lock gives one worker after another its turn."""
        return self.folder / "turn.lock"

    @property
    def served(self) -> Path:
        """File with the names of the generations that one of the workers served last."""
        return self.folder / "served.json"

    @property
    def others(self) -> tuple[int, ...]:
        """Numbers of the other workers."""
        return tuple(number for number in range(FIRST, self.count + 1) if number != self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself once it serves."""

    pid: int
    port: int
    metrics_port: int | None
    """Of its own Prometheus page, on the loopback."""

    def to_json(self) -> str:
        """Gives the text of a report file."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(path: Path) -> WorkerReport | None:
        """Gives what a report file says, None when there is none yet."""
        try:
            return WorkerReport(**json.loads(path.read_text(encoding="ascii")))
        except FileNotFoundError:
            return None


def read_served(slot: WorkerSlot) -> dict[str, str]:
    """Gives the names of what a worker of this server served last, by kind; empty while none has served."""
    try:
        names: dict[str, str] = json.loads(slot.served.read_text(encoding="ascii"))
    except FileNotFoundError:
        return {}
    return names


def write_whole(path: Path, text: str) -> None:
    """Writes a small file atomically: a reader finds all of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="ascii")
    part.replace(path)
