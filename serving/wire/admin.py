"""Messages of `lookback.admin.v1` and the servicer behind them, which is the same for both stages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from grpc import StatusCode

from protos.lookback.admin.v1 import admin_pb2 as pb
from protos.lookback.admin.v1 import admin_pb2_grpc
from serving.call import current_call
from serving.errors import RelayedError
from serving.security.roles import Role, for_role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc

ADMIN_SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
RELOAD_LIMIT_S = 600.0
"""What each of the other workers gets to open a generation, however long the caller waits."""


@cache
def software_version() -> str:
    """Gives the version of the installed package; "checkout" where it runs without being installed."""
    try:
        return version("lookback")
    except PackageNotFoundError:
        return "checkout"


def versions_to_proto(served: Mapping[str, str]) -> pb.Versions:
    """Gives the message of the names that a server serves, by kind of artefact: `store`, `index`, `bundle`."""
    return pb.Versions(
        software=software_version(),
        store_generation=served.get("store", ""),
        index_generation=served.get("index", ""),
        bundle=served.get("bundle", ""),
    )


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Answers `lookback.admin.v1.AdminService` for a stage, and for every worker of its port."""

    def __init__(self, reload: Callable[[], object], served: Callable[[], Mapping[str, str]]) -> None:
        """Answers for a server.

        Args:
            reload: Serves what is published; on any error goes on with what is served.
            served: Gives the names of what is served, by kind of artefact.
        """
        self._reload = reload
        self._served = served

    def add_to(self, server: grpc.Server) -> None:
        """Adds this servicer to a server."""
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self, server)

    @for_role(Role.ADMIN, audited=True)
    def Reload(self, request: pb.ReloadRequest, context: grpc.ServicerContext) -> pb.ReloadResponse:  # noqa: N802
        """Opens what is published, here first; what cannot be served is refused and the old one stays."""
        self._reload()
        workers = self._workers("Reload", RELOAD_LIMIT_S)
        return pb.ReloadResponse(versions=self._versions(), workers=workers)

    @for_role(Role.ADMIN, audited=True)
    def GetVersions(self, request: pb.GetVersionsRequest, context: grpc.ServicerContext) -> pb.GetVersionsResponse:  # noqa: N802
        """Says what is served."""
        workers = self._workers("GetVersions", current_call().deadline.remaining_s())
        return pb.GetVersionsResponse(versions=self._versions(), workers=workers)

    def _versions(self) -> pb.Versions:
        return versions_to_proto(self._served())

    def _workers(self, method: str, timeout_s: float) -> list[pb.Worker]:
        """Has the other workers do the same, one after another."""
        call = current_call()
        if call.siblings is None:
            return []
        workers = [pb.Worker(number=call.siblings.own_number, versions=self._versions())]
        for number in call.siblings.numbers:
            try:
                data = call.siblings.ask(
                    number, f"/{ADMIN_SERVICE}/{method}", b"", timeout_s, call.request_id, call.caller
                )
            except RelayedError as error:
                if error.code not in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
                    raise RelayedError(error.code, f"worker {number}: {error}") from error
                workers.append(pb.Worker(number=number, problem=str(error)))
            else:
                # Both answers have the versions in the same place.
                versions = pb.GetVersionsResponse.FromString(data).versions
                workers.append(pb.Worker(number=number, versions=versions))
        return sorted(workers, key=lambda worker: worker.number)
