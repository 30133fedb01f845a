from pathlib import Path

import pytest

from scripts.datasets.output import require_files, run_converter, write_dataset


def convert(data: Path, out: Path) -> dict[str, int]:
    require_files(data, ["clicks.csv"])
    write_dataset(out, {}, {"rows": 3})
    return {"rows": 3}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(out: Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["convert", "--data", str(tmp_path), "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            run_converter("Clicks", convert)
        return ended.value.code or 0, "".join(capsys.readouterr())

    return run


def test_a_converter_prints_its_counts(run, tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").touch()

    status, output = run(tmp_path / "out")

    assert status == 0
    assert "Clicks" in output
    assert (tmp_path / "out" / "counts.json").is_file()


def test_what_is_wrong_ends_a_converter_with_one_line(run, tmp_path: Path) -> None:
    status, output = run(tmp_path / "out")
    assert status == 2
    assert "clicks.csv is absent" in output

    (tmp_path / "clicks.csv").touch()
    status, output = run(tmp_path)
    assert status == 2
    assert "not a dataset directory" in output
