from __future__ import annotations

import shutil

import pytest

from scripts.checks import protos as check_protos
from scripts.checks.generate_protos import ROOT, TOOLS

SEARCH = "lookback/search/v1/search.proto"


@pytest.fixture
def protos(tmp_path):
    """A copy of the .proto files and the generated code, to change."""
    return shutil.copytree(ROOT / "protos", tmp_path / "protos")


def test_the_protos_keep_to_the_style():
    assert check_protos.check_style() == []


def test_an_equal_contract_is_compatible(protos):
    assert check_protos.check_compatible(protos.parent) == []


def test_a_field_that_went_away_breaks_clients(protos):
    path = protos / SEARCH
    text = path.read_text()
    assert "  bool with_names = 6;\n" in text
    path.write_text(text.replace("  bool with_names = 6;\n", "  bool with_names = 6;\n  bool gone_since = 1000;\n"))
    problems = check_protos.check_compatible(protos.parent)
    assert len(problems) == 1
    assert "gone_since" in problems[0]


@pytest.mark.skipif(not (TOOLS / "pins.txt").exists(), reason="the generator is not installed: run `make protos`")
def test_generated_code_that_is_stale_missing_or_left_over_is_found(protos):
    assert check_protos.check_generated() == []
    (protos / SEARCH).with_name("search_pb2.py").write_text("# edited by hand\n")
    (protos / SEARCH).with_name("search_pb2.pyi").unlink()
    (protos / SEARCH).with_name("left_over_pb2.py").touch()
    problems = check_protos.check_generated(protos.parent)
    assert [problem.split(":")[0].rpartition("/")[2] for problem in problems] == [
        "search_pb2.py",
        "search_pb2.pyi",
        "left_over_pb2.py",
    ]
