"""The memory of processes while they are under load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class MemoryLog:
    """Notes what some processes and their children hold, MiB, whenever it is called."""

    def __init__(self, pids: Sequence[int]) -> None:
        """Watches processes of this machine; those that end are counted as nothing."""
        self._pids = pids
        self.second: list[float] = []
        self.rss_mib: list[float] = []

    def __call__(self, second: float) -> None:
        """Takes a sample."""
        if self._pids:
            self.second.append(second)
            self.rss_mib.append(sum(_rss_mib(pid) for pid in self._pids))


def _rss_mib(pid: int) -> float:
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                total = int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_rss_mib(int(child)) for child in (task / "children").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return total
    return total
