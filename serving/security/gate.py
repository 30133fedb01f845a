"""The gate before every method of a server: who calls, whether it may, and how much of it at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from serving.errors import CallerLimitError, ForbiddenError, UnauthenticatedError
from serving.security.roles import Need
from serving.security.tokens import find_credential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from prometheus_client import Counter

    from serving.security.tokens import Credential
    from serving.security.watched import Watched

RETRY_AFTER_MS = 100
LONGEST_NAME = 64
HEADER = "authorization"
SCHEME = "bearer "
"""In small letters; it counts in any."""
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_FREE = nullcontext()
_REFUSED = (UnauthenticatedError, ForbiddenError)
Handler = Any
"""grpc leaves the types of a method handler's messages open."""


class Gate:
    """Lets callers in by their tokens, counts those it refuses, and holds each to its own limit. Thread-safe.

    Without tokens everybody whom TLS lets in may do everything.
    """

    def __init__(
        self, tokens: Watched[Mapping[str, Credential]] | None, failures: Counter, *, mutual: bool = False
    ) -> None:
        """Stands before a server.

        Args:
            tokens: Those that count, by id; None = none are asked for.
            failures: Counts refusals, by reason.
            mutual: Whether callers have certificates, which tell their names where tokens do not.
        """
        self._tokens = tokens
        self._mutual = mutual
        self._failures = failures
        self._lock = threading.Lock()
        self._in_flight: dict[str, int] = {}

    def admit(self, context: grpc.ServicerContext, need: Need | None) -> Credential | None:
        """Checks who calls, and whether it may.

        Args:
            context: The call.
            need: What its method asks of the caller; None = nobody may call it.

        Returns:
            The caller's credential; None = no tokens are asked for.

        Raises:
            UnauthenticatedError: The call does not show who it is.
            ForbiddenError: The caller is known, and may not.
        """
        if self._tokens is None:
            return None
        try:
            credential = find_credential(self._tokens.get(), _token_of(context))
            if need is None or (need.role is not None and need.role not in credential.roles):
                role = "a role that no token has" if need is None or need.role is None else f"the role {need.role}"
                raise ForbiddenError(f"the token is not allowed to do this: it needs {role}")
        except _REFUSED as error:
            self._failures.labels(getattr(error, "reason", "role")).inc()
            raise
        return credential

    def admit_header(self, header: str) -> bool:
        """Says whether any known token stands in an HTTP header, as for `Authorization: Bearer TOKEN`."""
        if self._tokens is None:
            return True
        try:
            find_credential(self._tokens.get(), _token_in(header))
        except UnauthenticatedError as error:
            self._failures.labels(error.reason).inc()
            return False
        return True

    def place(self, credential: Credential | None) -> AbstractContextManager[None]:
        """Counts a call of a caller for the time of the block.

        Raises:
            CallerLimitError: On entry; as many of its calls as it may have are under way.
        """
        if credential is None or credential.in_flight is None:
            return _FREE
        return self._held(credential.caller, credential.in_flight)

    @contextmanager
    def _held(self, caller: str, limit: int) -> Iterator[None]:
        with self._lock:
            count = self._in_flight.get(caller, 0)
            if count >= limit:
                raise CallerLimitError(limit, RETRY_AFTER_MS)
            self._in_flight[caller] = count + 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight[caller] -= 1

    def guarded(self, path: str, handler: Handler, need: Need | None) -> Handler:
        """Gives the handler of a method behind this gate; of one that is not there, with tokens, one that refuses.

        Args:
            path: Full name of the method.
            handler: What answers it; None = nothing does.
            need: What it asks of the caller.
        """
        if self._tokens is None:
            return handler
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(lambda _, context: self._unknown(context))
        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = kinds[handler.request_streaming, handler.response_streaming]
        answer, read = getattr(handler, name), handler.request_deserializer
        # Whether the server as a whole is up is for everybody: who balances load has no token.
        asks_first = path != HEALTH_CHECK
        reads_first = handler.request_streaming or not asks_first  # else a stranger's bytes are not even read

        def behind(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401 (any message, any answer)
            if asks_first or request.service:
                self._check(context, need)
            return answer(request if reads_first else read(request), context)

        return make(behind, read if reads_first else None, handler.response_serializer)

    def name_of(self, credential: Credential | None, context: grpc.ServicerContext) -> str:
        """Gives the name of a caller: that of its token, else that of its certificate; empty = it has neither."""
        if credential is not None:
            return credential.caller
        if not self._mutual:
            return ""
        about = context.auth_context()
        names = [*about.get("x509_common_name", ()), *about.get("x509_subject_alternative_name", ()), b""]
        name = bytes(names[0][:LONGEST_NAME]).decode("ascii", "replace")
        return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)

    def _unknown(self, context: grpc.ServicerContext) -> NoReturn:
        self._check(context, Need(None))
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        raise AssertionError("abort returned")

    def _check(self, context: grpc.ServicerContext, need: Need | None) -> None:
        try:
            self.admit(context, need)
        except UnauthenticatedError as error:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except ForbiddenError as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))


def _token_of(context: grpc.ServicerContext) -> str:
    found = [value for key, value in context.invocation_metadata() if key == HEADER]
    if not found:
        raise UnauthenticatedError("no_token", "a token is needed: authorization: Bearer TOKEN")
    if len(found) > 1 or not isinstance(found[0], str):
        raise UnauthenticatedError("unknown_token", "there must be one header authorization: Bearer TOKEN")
    return _token_in(found[0])


def _token_in(header: str) -> str:
    if header[: len(SCHEME)].lower() != SCHEME:
        raise UnauthenticatedError("no_token", "a token is needed: authorization: Bearer TOKEN")
    return header[len(SCHEME) :]
