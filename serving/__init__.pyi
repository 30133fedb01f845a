"""What `from serving import ...` offers, each name once; `__init__.py` imports it when it is first asked for."""

from .call import Call as Call
from .call import current_call as current_call
from .errors import DrainingError as DrainingError
from .errors import NotOfferedError as NotOfferedError
from .errors import OverloadedError as OverloadedError
from .errors import RelayedError as RelayedError
from .errors import ServingError as ServingError
from .limits import LARGEST_MESSAGE_BYTES as LARGEST_MESSAGE_BYTES
from .limits import LARGEST_SMALL_MESSAGE_BYTES as LARGEST_SMALL_MESSAGE_BYTES
from .limits import takes_up_to as takes_up_to
from .logs import make_logger as make_logger
from .metrics import ServerMetrics as ServerMetrics
from .options import ServeOptions as ServeOptions
from .server.admission import Admission as Admission
from .server.edge import Service as Service
from .server.server import Server as Server
from .server.server import run_until_terminated as run_until_terminated
from .server.status import COMMON_ROWS as COMMON_ROWS
from .server.status import Row as Row
from .server.status import StatusTable as StatusTable
from .server.swaps import Reloadable as Reloadable
from .server.swaps import Swaps as Swaps
from .siblings import Siblings as Siblings
from .slot import WorkerSlot as WorkerSlot
from .workers.supervisor import Supervisor as Supervisor
from .workers.worker import end_with_supervisor as end_with_supervisor
