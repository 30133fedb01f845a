"""Errors of the recall report; no server raises them.

SearchError
`-- SampleError             the operator: the data do not give the requests that the report needs
"""

from search_stage.errors import SearchError


class SampleError(SearchError):
    """The data do not give the requests that the report needs; says what is missing."""
