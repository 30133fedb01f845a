"""The workers of one server among themselves: calls over private sockets, messages passed on as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from serving.errors import RelayedError
from serving.limits import LARGEST_MESSAGE_BYTES

if TYPE_CHECKING:
    from serving.slot import WorkerSlot
    from serving.tracing import Metadata

OURS = "lookback-"
"""Begins every metadata key of ours."""

REQUEST_ID = "lookback-request-id"
"""Metadata key under which a request keeps its id from one worker to the next."""

CALLER = "lookback-caller"
"""Metadata key under which a program names itself, and a worker says who called; it counts where nothing is proved."""

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a worker is back within seconds
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2000),  # what gRPC gives an attempt to connect; a call has its own deadline
)


class Siblings:
    """Channels to the other workers; thread-safe. They connect with the first call and again by themselves."""

    def __init__(self, slot: WorkerSlot) -> None:
        """Prepares to call the others; `slot` is that of this process."""
        self.own_number = slot.number
        self.numbers = slot.others
        self._channels = {n: grpc.insecure_channel(slot.socket(n), options=_OPTIONS) for n in self.numbers}

    def close(self) -> None:
        """Ends every call that waits for an answer."""
        for channel in self._channels.values():
            channel.close()

    def ask(
        self,
        number: int,
        method: str,
        message: bytes,
        timeout_s: float,
        request_id: str,
        caller: str,
        trace: Metadata = (),
    ) -> bytes:
        """Has another worker answer a call.

        Args:
            number: Which worker.
            method: Full name with slashes, as "/lookback.search.v1.SearchService/Append".
            message: The request as it came.
            timeout_s: Seconds to wait.
            request_id: Under which the other one logs it.
            caller: Name of who called.
            trace: Context of the trace that it belongs to.

        Returns:
            The answer's bytes.

        Raises:
            RelayedError: The other one refused, or does not answer.
        """
        ask: Any = self._channels[number].unary_unary(method)
        metadata = ((REQUEST_ID, request_id), (CALLER, caller), *trace)
        try:
            answer: bytes = ask(message, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE:
                details = f"worker {number}, which has to do this, does not answer now; try again in a second"
            trailing: Any = error.trailing_metadata() or ()
            given = tuple((key, value) for key, value in trailing if key.startswith(OURS))
            raise RelayedError(code, details, given) from error
        return answer
