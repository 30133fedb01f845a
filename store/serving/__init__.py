"""What both servers need and neither stage may import from the other: see docs/adr/0003-shared-serving-code.md.

Knows gRPC, health, reflection, metrics and logs, but no message of ours: a stage hands its servicers in.
"""

from store.serving.admission import Admission
from store.serving.call import Call, current_call
from store.serving.errors import DrainingError, NotOfferedError, OverloadedError, ServingError, TimeSpentError
from store.serving.logs import make_logger
from store.serving.metrics import ServerMetrics
from store.serving.options import ServeOptions
from store.serving.server import Server, Service, run_until_terminated, software_version
from store.serving.status import COMMON_ROWS, Row, StatusTable

__all__ = [
    "COMMON_ROWS",
    "Admission",
    "Call",
    "DrainingError",
    "NotOfferedError",
    "OverloadedError",
    "Row",
    "ServeOptions",
    "Server",
    "ServerMetrics",
    "Service",
    "ServingError",
    "StatusTable",
    "TimeSpentError",
    "current_call",
    "make_logger",
    "run_until_terminated",
    "software_version",
]
