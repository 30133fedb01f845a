"""Checks of a search request that need the configuration or the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.errors import InputError
from store.retrieval import MAX_CATEGORIES_ASKED
from store.types import NO_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_stage.config import LimitsConfig, SearchConfig
    from store.retrieval import SearchRequest


def check_request(request: SearchRequest, limits: LimitsConfig, now_ms: int) -> None:
    """Checks a request against the limits.

    Raises:
        InputError: The user is no id, the as-of time is not positive or too far ahead of the clock, there are
            no or too many candidates, covered products or further categories, a top_k, `newest` or `delta_sequence` is
            negative, or a field is named twice. The message starts with the field.
    """
    if not 0 <= request.user < NO_ID:
        raise InputError(f"user: {request.user} is outside 0 .. 2**64 - 2")
    if request.as_of_ms <= 0:
        raise InputError(f"as_of_ms: must be positive, is {request.as_of_ms}")
    latest_ms = now_ms + int(limits.clock_skew_s * 1000)
    if request.as_of_ms > latest_ms:
        raise InputError(
            f"as_of_ms: {request.as_of_ms} is over {limits.clock_skew_s:g} s ahead of the server's clock, {now_ms}"
        )
    count = len(request.candidates)
    if not 1 <= count <= limits.max_candidates:
        raise InputError(f"candidates: must be 1 to {limits.max_candidates}, got {count}")
    num_covers = len(request.candidates.covers)
    if num_covers > limits.max_covers:
        raise InputError(f"candidates.covers: at most {limits.max_covers} in one request, got {num_covers}")
    num_categories = len(request.candidates.more_categories)
    if num_categories > limits.max_categories:
        raise InputError(
            f"candidates.more_categories: at most {limits.max_categories} in one request, got {num_categories}"
        )
    if len(set(request.behavior_fields)) < len(request.behavior_fields):
        raise InputError("behavior_fields: a field is named twice")
    numbers = {f"top_k.{name}": getattr(request.top_k, name) for name in ("hard", "soft", "recent")}
    for name, value in {**numbers, "newest": request.newest, "delta_sequence": request.delta_sequence}.items():
        if value is not None and value < 0:
            raise InputError(f"{name}: must be 0 or more, is {value}")


def check_categories(count: int) -> None:
    """Checks how many categories the ancestors are asked of.

    Raises:
        InputError: None, or too many; the message starts with the field.
    """
    if not 1 <= count <= MAX_CATEGORIES_ASKED:
        raise InputError(f"categories: must be 1 to {MAX_CATEGORIES_ASKED}, got {count}")


def check_answer_size(request: SearchRequest, config: SearchConfig, domains: Sequence[str], num_behaviors: int) -> None:
    """Checks what the answer of a request could come to, before anything is done for it.

    Args:
        request: A request that `check_request` passed.
        config: Quotas and limits.
        domains: Domains that the user has behaviors of.
        num_behaviors: Behaviors of the user before the as-of time.

    Raises:
        InputError: More entries than the server answers; the message starts with the field.
    """
    hard = lower(sum(config.hard.policy(domain).quota for domain in domains), request.top_k.hard)
    soft, recent = lower(config.soft.top_k, request.top_k.soft), lower(config.recent.top_k, request.top_k.recent)
    each, count = min(hard + soft + recent, num_behaviors), len(request.candidates)
    if each * count > config.limits.max_entries:
        raise InputError(
            f"candidates: {count} of up to {each} behaviors each could come to {each * count} entries, the server "
            f"answers {config.limits.max_entries}; send fewer candidates, or lower top_k"
        )


def lower(configured: int, requested: int | None) -> int:
    """Gives the number that holds: a request may lower the server's, never raise it."""
    return configured if requested is None else min(configured, requested)
