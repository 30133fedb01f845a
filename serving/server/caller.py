"""Who calls, for what is to be shared fairly between callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.siblings import CALLER

if TYPE_CHECKING:
    import grpc

LONGEST_NAME = 64


def caller_of(context: grpc.ServicerContext) -> str:
    """Gives the name that the caller gave itself, else the host it calls from: never its port, which is one of many."""
    for key, value in context.invocation_metadata():
        if key == CALLER:
            return str(value)[:LONGEST_NAME]
    peer = context.peer()
    return peer if peer.startswith("unix:") else peer.rpartition(":")[0]
