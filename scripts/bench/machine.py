"""On what the numbers were taken."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "pyarrow", "lmdb", "xxhash")


def describe_machine(work: Path) -> dict[str, Any]:
    """Gives the machine, the file system that a folder is on, and what runs there, for JSON.

    Other work makes the numbers worse: `load_average` says how much of it there was.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "file_system": _file_system(work),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "load_average": load_average(),
    }


def load_average() -> float:
    """Gives how many processes ran or wanted to, the mean of the last minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        facts = dict(
            (part.strip() for part in line.split(":", 1))
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "cpu family", "model\t"))
        )
        return f"{facts.get('model name', '?')}, family {facts.get('cpu family', '?')} model {facts.get('model', '?')}"
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Gives the type of the file system, by the longest mount point above the folder."""
    path, mounts = folder.resolve(), Path("/proc/mounts")
    found = ("", "unknown")
    if mounts.is_file():
        for line in mounts.read_text(encoding="utf-8").splitlines():
            _, point, kind, *_ = line.split()
            if path.is_relative_to(point) and len(point) >= len(found[0]):
                found = (point, kind)
    return found[1]
