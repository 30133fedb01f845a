"""Errors of the search stage, by who must act.

A bad request is an `InputError` of the store, a spent deadline its `DeadlineExceededError`; errors of `store` pass
through unchanged.

SearchError
|-- ConfigError            the caller: search.yaml is missing or cannot be used
|-- UnusableIndexError     the operator: an index generation cannot be served
|   |-- CorruptIndexError      its arrays are not what its manifest promises
|   `-- IndexMismatchError     it was built for another taxonomy or model than the one in use
|-- ExportError            the operator: a model's attention export cannot be used
|-- IndexCheckError        the operator: a built index is not fit to be published
|-- FaissMissingError      the operator: neither faiss wheel is installed
`-- SearchServiceError     transient: the search service did not answer a client of this package
"""

from store.errors import LookbackError


class SearchError(LookbackError):
    """Root of every error raised by `search_stage`."""


class ConfigError(SearchError):
    """The search configuration is not valid; the message names the file and the field."""

    exit_status = 2


class UnusableIndexError(SearchError):
    """An index generation cannot be served."""


class CorruptIndexError(UnusableIndexError):
    """An array of the index has another type, shape or content than its manifest promises; names the file."""


class IndexMismatchError(UnusableIndexError):
    """The index was built for another taxonomy or model than the one in use; says which, and what to run."""


class ExportError(SearchError):
    """A model's attention export is missing, damaged or incomplete; names the file."""


class IndexCheckError(SearchError):
    """An index that was built failed its self-check; nothing was published. The message says what was measured."""


class FaissMissingError(SearchError):
    """Neither faiss wheel is installed; says what to install."""


class SearchServiceError(SearchError):
    """The search service is down, draining, full, or failed; what was asked was not done, or not wholly."""

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        """When a service that is full said to come again; None = it did not say."""
