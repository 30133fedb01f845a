"""What both servers need and neither stage may import from the other: see docs/adr/0012-serving-is-a-package.md.

Knows gRPC, health, reflection, metrics and logs; of our messages only `serving.wire` does. A stage hands its servicers
in.
"""

from serving.call import Call, current_call
from serving.errors import (
    DrainingError,
    NotOfferedError,
    OverloadedError,
    RelayedError,
    ServingError,
)
from serving.limits import LARGEST_MESSAGE_BYTES, LARGEST_SMALL_MESSAGE_BYTES, takes_up_to
from serving.logs import make_logger
from serving.metrics import ServerMetrics
from serving.options import ServeOptions
from serving.server.admission import Admission
from serving.server.edge import Service
from serving.server.server import Server, run_until_terminated
from serving.server.status import COMMON_ROWS, Row, StatusTable
from serving.server.swaps import Reloadable, Swaps
from serving.siblings import Siblings
from serving.slot import WorkerSlot
from serving.workers.supervisor import Supervisor
from serving.workers.worker import end_with_supervisor

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
    "Reloadable",
    "Row",
    "ServeOptions",
    "Server",
    "ServerMetrics",
    "Service",
    "ServingError",
    "Siblings",
    "StatusTable",
    "Supervisor",
    "Swaps",
    "WorkerSlot",
    "current_call",
    "end_with_supervisor",
    "make_logger",
    "run_until_terminated",
    "takes_up_to",
]
