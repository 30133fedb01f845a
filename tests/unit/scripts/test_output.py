from pathlib import Path

from typer.testing import CliRunner

from scripts.datasets.output import converter_app, require_files, write_dataset


def convert(data: Path, out: Path) -> dict[str, int]:
    require_files(data, ["clicks.csv"])
    write_dataset(out, {}, {"rows": 3})
    return {"rows": 3}


def run(data: Path, out: Path) -> tuple[int, str]:
    answer = CliRunner().invoke(converter_app("Clicks", convert), ["--data", str(data), "--out", str(out)])
    return answer.exit_code, answer.output


def test_a_converter_prints_its_counts(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").touch()

    status, output = run(tmp_path, tmp_path / "out")

    assert status == 0
    assert "Clicks" in output
    assert "rows" in output


def test_what_is_wrong_is_said_of_the_option_that_names_it(tmp_path: Path) -> None:
    status, output = run(tmp_path, tmp_path / "out")
    assert status == 2
    assert "--data" in output

    (tmp_path / "clicks.csv").touch()
    status, output = run(tmp_path, tmp_path)
    assert status == 2
    assert "--out" in output
