"""What a bundle was trained with and a served request lacks: fields, statistics, the configuration of search.

None of it stops a ranking: a missing value has a row of its own in the tables. But the answer says so.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from store.fields import type_of
from store.retrieval import NO_DECAY
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from model_stage.bundle import Bundle
    from model_stage.types import RankRequest
    from store.fields import FieldColumn
    from store.retrieval import SearchResult

_log = logging.getLogger(__name__)


class TrainedWith:
    """Compares requests and answers of search with what a bundle was trained with. Thread-safe.

    Args:
        bundle: The bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._seen: tuple[str, tuple[str, ...]] = ("", ())
        """The configuration that search answered last, and in what it differs."""

    def missing(self, request: RankRequest, found: SearchResult) -> tuple[str, ...]:
        """Gives the names of fields and statistics that the bundle reads and nobody gives, in the schema's order.

        Args:
            request: The request.
            found: What search answered; where it did not, statistics are not looked at: the answer is degraded.
        """
        return (*self._fields(request, found), *(self._statistics(found) if found.store_generation else ()))

    def differences(self, found: SearchResult) -> tuple[str, ...]:
        """Gives in what search is configured otherwise than in training, key by key; logs it when that changes.

        Nothing is known of bundles and of search stages of earlier versions.
        """
        configuration, differences = self._seen
        if found.configuration and found.configuration != configuration:
            differences = search_differences(self._bundle.provenance.search, found.configuration)
            self._seen = found.configuration, differences
            if differences:
                _log.warning(
                    "search is not configured as where bundle %s was trained: %s",
                    self._bundle.name,
                    "; ".join(differences),
                )
        return differences if found.configuration else ()

    def _fields(self, request: RankRequest, found: SearchResult) -> Iterator[str]:
        given = {
            "candidate": (request.candidate_fields, found.candidate_fields),
            "user": (request.user_fields, found.user_fields),
            "context": (request.context_fields, {}),
        }
        for field in self._bundle.schema.fields:
            if field.part != "behavior" and not any(_says(known.get(field.name)) for known in given[field.part]):
                yield field.name

    def _statistics(self, found: SearchResult) -> Iterator[str]:
        schema, statistics = self._bundle.schema, found.statistics
        if schema.match_measures:
            for domain, action in self._bundle.vocabularies.streams:
                if (domain, action) not in statistics.streams:
                    yield f"statistics of {domain}/{action}"
            for level in range(statistics.count.shape[1], schema.match_levels):
                yield f"statistics of level {level}"
        if "within" in schema.match_measures:
            answered = statistics.within_ms.tolist()
            yield from (f"within{days:g}d" for days in schema.match_within_days if round(days * DAY_MS) not in answered)
        half_lives = statistics.half_life_ms.tolist() if found.index_generation else []
        for days in schema.match_half_life_days:
            if (NO_DECAY if days is None else round(days * DAY_MS)) not in half_lives:
                yield f"similarity:{'no decay' if days is None else f'{days:g}d'}"


def search_differences(trained: Mapping[str, Any], configuration: str) -> tuple[str, ...]:
    """Says in what a configuration of search differs from the one of a training.

    Args:
        trained: That of the training; empty = not recorded.
        configuration: `SearchResult.configuration`.
    """
    if not trained:
        return ()
    try:
        now = json.loads(configuration)
    except ValueError:
        return ("the search stage answers a configuration that is no JSON",)
    return tuple(_differences(trained, now, ""))


def _differences(trained: object, now: object, key: str) -> Iterator[str]:
    if isinstance(trained, dict) and isinstance(now, dict):
        for name in sorted({*trained, *now}):
            yield from _differences(trained.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif trained != now:
        yield f"{key}: trained with {json.dumps(trained)}, is {json.dumps(now)}"


def _says(column: FieldColumn | None) -> bool:
    """Whether any value of a column is there."""
    return column is not None and bool(type_of(column).given(column).any())
