import json
from pathlib import Path

import pytest

from scripts.bench.markdown import rows_table
from scripts.bench.report import head, new_facts, save, target, targets_section


def test_numbers_and_report_are_written_with_date_command_and_machine(tmp_path: Path) -> None:
    facts = new_facts("index --items 7", tmp_path, rows=[{"L": 1_000, "ms": 2.5}])
    text = head("Rebuild", facts, "What was measured.", torch="9.9")

    save(facts, tmp_path / "new" / "out.json", tmp_path / "out.md", text, rows_table(facts["rows"]))

    assert json.loads((tmp_path / "new" / "out.json").read_text())["rows"] == [{"L": 1_000, "ms": 2.5}]
    report = (tmp_path / "out.md").read_text()
    assert report.startswith(f"# {facts['date']} Rebuild\n\nCommand: `python -m scripts.bench index --items 7`.")
    assert facts["machine"]["processor"] in report
    assert "torch 9.9" in report
    assert "| 1,000 | 2.50 |" in report
    assert "None" not in report


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
