import json
from pathlib import Path

import pytest

from scripts.bench.markdown import formatted, rows_table
from scripts.bench.report import finish, head, new_facts, target, targets_section, targets_table


def test_numbers_and_report_are_written_with_date_command_and_machine(tmp_path: Path) -> None:
    facts = new_facts("index --items 7", tmp_path, rows=[{"L": 1_000, "ms": 2.5}])
    text = head("Rebuild", facts, "What was measured.", torch="9.9")

    finish(facts, (text, rows_table(facts["rows"])), tmp_path / "out.json", tmp_path / "out.md")

    assert json.loads((tmp_path / "out.json").read_text())["rows"] == [{"L": 1_000, "ms": 2.5}]
    report = (tmp_path / "out.md").read_text()
    assert report.startswith(f"# {facts['date']} Rebuild\n\nCommand: `python -m scripts.bench index --items 7`.")
    assert facts["machine"]["processor"] in report
    assert "torch 9.9" in report
    assert "| 1,000 | 2.50 |" in report
    assert "None" not in report


def test_on_standard_output_json_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = targets_table([target("recall", 0.5, ">=", 0.9)])

    finish({"rows": 3}, (), None, None, table)
    assert "recall" in capsys.readouterr().out
    finish({"rows": 3}, (), Path("-"), None, table)
    assert json.loads(capsys.readouterr().out) == {"rows": 3}


@pytest.mark.parametrize(
    ("measured", "sign", "bar", "met"),
    [(1.0, ">=", 1.0, True), (0.9, ">=", 1.0, False), (1.0, "<=", 1.0, True), (1.1, "<=", 1.0, False)],
)
def test_a_target_is_met_on_the_right_side_of_its_bar(measured: float, sign: str, bar: float, met: bool) -> None:
    found = target("recall", measured, sign, bar)

    assert found == {"what": "recall", "measured": measured, "bar": f"{sign} {bar:,}", "met": met}
    assert ("**no**" in targets_section([found])) is not met


def test_cells_are_read_by_people() -> None:
    rows = [{"name": "a", "recall": 0.98765, "change": -0.25, "train_ms": None, "rate": 12_345.678}]
    assert "| a | 0.988 | -25.0% | - | 12,345.68 |" in rows_table(rows)
    columns = {"what": "{row[name]}", "least to most": "{row[ms][0]:.1f} to {row[ms][1]:,.0f}"}
    assert formatted(columns, [{"name": "a", "ms": (0.25, 1_234.5)}]) == [["a", "0.2 to 1,234"]]
