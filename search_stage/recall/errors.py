"""Errors of the recall report; no server raises them.

SearchError
|-- SampleError             the operator: the data do not give the requests that the report needs
`-- MatplotlibMissingError  the operator: the plot's library is not installed
"""

from search_stage.errors import SearchError


class SampleError(SearchError):
    """The data do not give the requests that the report needs; says what is missing."""


class MatplotlibMissingError(SearchError):
    """Plots need matplotlib; says what to install."""
