"""Errors of the model stage, by who must act.

A bad request is an `InputError` of the store, and a spent deadline its `DeadlineExceededError`.

ModelError
|-- ConfigError              the caller: a schema, targets or training file that cannot be used; names file and key
|-- ParameterGroupError      the engineer: a network with a parameter that no optimiser trains, or two do; names it
|-- BundleError              the operator: a bundle that cannot be served; names the file and what to run
|   `-- BundleMismatchError  the operator: what search answers is not what the bundle was made for; names both
|-- SearchUnavailableError   transient: the search stage did not answer in time; ranking answers degraded
`-- RankingUnavailableError  transient: the ranking service did not answer a client of this package
"""

from __future__ import annotations

from typing import Literal

from store.errors import LookbackError

Degraded = Literal["timeout", "unavailable", "circuit_open", "overloaded", "mismatch", "failed"]
"""Why an answer was made without history, in one word: search gave no answer in time, nobody was there, it was not
asked, it refused for too much load, it does not belong to the bundle, or it answered an error or rubbish."""


class ModelError(LookbackError):
    """Root of every error raised by `model_stage`."""


class ConfigError(ModelError):
    """A configuration file cannot be used; the message names the file, the key and what is allowed."""

    exit_status = 2


class ParameterGroupError(ModelError):
    """A parameter of a network is in no group of parameters, or in more than one; the message names it."""


class BundleError(ModelError):
    """A published model cannot be served; the message names the file and what to run."""


class BundleMismatchError(BundleError):
    """The index or the store behind search is not what the bundle was made for; the message names both."""


class SearchUnavailableError(ModelError):
    """The search stage is down, draining, overloaded or too slow for this request."""

    def __init__(self, message: str, kind: Degraded = "unavailable") -> None:
        super().__init__(message)
        self.kind: Degraded = kind


class RankingUnavailableError(ModelError):
    """The ranking service is down, draining, overloaded or failed; nothing was scored."""

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        """When a service that is full said to come again; None = it did not say."""
