"""How a server is to listen and how much it takes at once."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from pathlib import Path

from serving.slot import WorkerSlot
from store.errors import InputError

MOST_REQUESTS = 1024
"""Each takes a thread while it runs or waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where to listen and how much to take; refuses an address that others can reach unless `insecure` is spelled out.

    Raises:
        InputError: A host off the loopback without `insecure`, or a port out of range; names the option.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free port."""
    metrics_port: int | None = None
    """Port of the Prometheus page on the same host; 0 = any free port, None = no page."""
    reflection: bool = False
    insecure: bool = False
    port_file: Path | None = None
    """File to write the bound port to, once the server answers; removed when it ends."""
    max_running: int = 4
    max_waiting: int = 64
    grace_s: float = 10.0
    """Time that requests in flight get after SIGTERM."""
    watch_s: float = 0.0
    """Seconds from one look at what is published to the next; 0 = only an operator's `Reload` changes it."""
    worker: WorkerSlot | None = None
    """Where this process stands among the workers of a port; None = it serves alone."""

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("metrics-port", self.metrics_port or 0)):
            if not 0 <= port <= 65535:
                raise InputError(f"{name}: {port} is outside 0 .. 65535")
        for name, number, least in (("max-running", self.max_running, 1), ("max-waiting", self.max_waiting, 0)):
            if not least <= number <= MOST_REQUESTS:
                raise InputError(f"{name}: {number} is outside {least} .. {MOST_REQUESTS}")
        for name, seconds in (("grace-seconds", self.grace_s), ("watch-seconds", self.watch_s)):
            if not 0 <= seconds < math.inf:
                raise InputError(f"{name}: {seconds} is no number of seconds from 0 up")
        if not (self.insecure or is_loopback(self.host)):
            raise InputError(
                f"host: {self.host} can be reached from other machines, and this server has neither encryption nor "
                "access control; listen on 127.0.0.1, or give --insecure to do it all the same"
            )

    def address(self, port: int) -> str:
        """Gives host and port as gRPC wants them written."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name other than "localhost" counts as reachable by others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
