"""What both servers need and neither stage may import from the other: see docs/adr/0003-shared-serving-code.md.

Knows gRPC, health, reflection, metrics and logs, but no message of ours: a stage hands its servicers in.
"""

from store.serving.admission import Admission
from store.serving.call import Call, current_call
from store.serving.edge import Service
from store.serving.errors import (
    DrainingError,
    NotOfferedError,
    OverloadedError,
    RelayedError,
    ServingError,
    TimeSpentError,
)
from store.serving.limits import LARGEST_MESSAGE_BYTES, LARGEST_SMALL_MESSAGE_BYTES
from store.serving.logs import make_logger
from store.serving.metrics import ServerMetrics
from store.serving.options import ServeOptions
from store.serving.place import WorkerPlace
from store.serving.server import Server, run_until_terminated, software_version
from store.serving.siblings import Siblings
from store.serving.status import COMMON_ROWS, Row, StatusTable
from store.serving.supervisor import Supervisor
from store.serving.swaps import Swappable, Swaps
from store.serving.worker_process import end_with_supervisor

__all__ = [
    "COMMON_ROWS",
    "LARGEST_MESSAGE_BYTES",
    "LARGEST_SMALL_MESSAGE_BYTES",
    "Admission",
    "Call",
    "DrainingError",
    "NotOfferedError",
    "OverloadedError",
    "RelayedError",
    "Row",
    "ServeOptions",
    "Server",
    "ServerMetrics",
    "Service",
    "ServingError",
    "Siblings",
    "StatusTable",
    "Supervisor",
    "Swappable",
    "Swaps",
    "TimeSpentError",
    "WorkerPlace",
    "current_call",
    "end_with_supervisor",
    "make_logger",
    "run_until_terminated",
    "software_version",
]
