"""Every error class of the packages has its own row in the table of the service that can raise it, docs included."""

from __future__ import annotations

import inspect

import pytest
from grpc import StatusCode

import model_stage.errors
import model_stage.serving.service
import search_stage.errors
import search_stage.serving.service
import serving.errors
import serving.server.status
import store.errors
from search_stage.errors import SearchServiceError


def error_classes(*modules):
    return {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }


COMMON = (store.errors, serving.errors)
SERVICES = {
    "search": (search_stage.serving.service, search_stage.errors),
    "ranking": (model_stage.serving.service, model_stage.errors),
}


@pytest.mark.parametrize(("service", "errors"), SERVICES.values(), ids=SERVICES)
def test_every_error_class_has_a_row(service, errors):
    of_callers = {serving.errors.UnreadableAnswerError, serving.errors.ClientClosedError, SearchServiceError}
    assert set(service.STATUS_TABLE.rows) == error_classes(*COMMON, errors) - {store.errors.LookbackError} - of_callers


@pytest.mark.parametrize(
    ("module", "rows"),
    [
        (serving.server.status, serving.server.status.COMMON_ROWS),
        *((service, service.STATUS_TABLE.rows.values()) for service, _ in SERVICES.values()),
    ],
)
def test_the_table_in_the_docstring_says_the_same(module, rows):
    lines = [line for line in module.__doc__.splitlines() if line.startswith("|")]
    common = {row.error for row in serving.server.status.COMMON_ROWS}
    own = [row for row in rows if module is serving.server.status or row.error not in common]
    assert own
    for row in own:
        found = [line for line in lines if row.error.__name__ in line.split("|")[1].replace(",", " ").split()]
        assert len(found) == 1, row.error.__name__
        _, _, status, text, _ = found[0].split("|")
        assert status.split()[0] == row.code.name
        assert ("request id" in text) == (not row.tell), row.error.__name__


def test_an_error_without_a_row_is_internal_and_says_nothing():
    table = serving.server.status.StatusTable()
    assert table.row(KeyError("secret")).code is StatusCode.INTERNAL
    assert "secret" not in table.details(KeyError("secret"), "id7")
    assert "id7" in table.details(KeyError("secret"), "id7")


def test_an_error_takes_the_row_of_its_nearest_class():
    class Odd(store.errors.CorruptRecordError):
        pass

    assert serving.server.status.StatusTable().row(Odd()).code is StatusCode.DATA_LOSS
