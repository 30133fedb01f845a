"""Checks of a search request that need the configuration or the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_stage.errors import InvalidRequestError
from store.types import NO_ID

if TYPE_CHECKING:
    from search_stage.config import LimitsConfig
    from store.reading.retrieval import SearchRequest


def check_request(request: SearchRequest, limits: LimitsConfig, now_ms: int) -> None:
    """Checks a request against the limits.

    Raises:
        InvalidRequestError: The user is no id, the as-of time is not positive or too far ahead of the clock, there are
            no or too many candidates or covered products, or a top_k is negative. The message starts with the field.
    """
    if not 0 <= request.user < NO_ID:
        raise InvalidRequestError(f"user: {request.user} is outside 0 .. 2**64 - 2")
    if request.as_of_ms <= 0:
        raise InvalidRequestError(f"as_of_ms: must be positive, is {request.as_of_ms}")
    latest_ms = now_ms + int(limits.clock_skew_s * 1000)
    if request.as_of_ms > latest_ms:
        raise InvalidRequestError(
            f"as_of_ms: {request.as_of_ms} is over {limits.clock_skew_s:g} s ahead of the server's clock, {now_ms}"
        )
    count = len(request.candidates)
    if not 1 <= count <= limits.max_candidates:
        raise InvalidRequestError(f"candidates: must be 1 to {limits.max_candidates}, got {count}")
    num_covers = len(request.candidates.covers)
    if num_covers > limits.max_covers:
        raise InvalidRequestError(f"candidates.covers: at most {limits.max_covers} in one request, got {num_covers}")
    for name in ("hard", "soft", "recent"):
        value = getattr(request.top_k, name)
        if value is not None and value < 0:
            raise InvalidRequestError(f"top_k.{name}: must be 0 or more, is {value}")
