"""What all commands share: their terminal, their options, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

import model_stage.cli
import model_stage.errors
import search_stage.cli
import search_stage.errors
import store.cli
from store.command import JsonOption, command_line, config_folder, output_folder, run
from store.errors import InputError, LookbackError, MapFullError, StoreError, StoreIOError
from store.terminal import STDOUT, age_text, exit_on_error, say, show_report, size_text, steps, table, write_json


def end_of(work, *arguments, monkeypatch, capsys):
    """Gives the exit status, output and errors of a command line of one command."""
    monkeypatch.setattr(sys, "argv", ["prog", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run(command_line("Tries.", work))
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("a: b"), 2),
        (search_stage.errors.ConfigError("a: b"), 2),
        (model_stage.errors.ConfigError("a: b"), 2),
        (StoreError("a: b"), 1),
        (MapFullError("a: b"), 1),
        (search_stage.errors.UnusableIndexError("a: b"), 1),
        (model_stage.errors.BundleError("a: b"), 1),
    ],
)
def test_every_error_of_ours_ends_a_command_in_one_line(error, status, monkeypatch, capsys):
    def fail() -> None:
        raise error

    assert end_of(fail, monkeypatch=monkeypatch, capsys=capsys) == (status, "", "error: a: b\n")


def test_a_programming_error_keeps_its_traceback():
    with pytest.raises(KeyError), exit_on_error():
        raise KeyError("x")


def test_a_mistyped_command_ends_in_the_same_line(monkeypatch, capsys):
    def count(number: Annotated[int, typer.Option()]) -> None:
        say(f"{number}")

    given = {"monkeypatch": monkeypatch, "capsys": capsys}
    assert end_of(count, "--number", 3, **given) == (0, "3\n", "")
    for arguments in ((), ("--number",), ("--number", "x"), ("--other", 1)):
        status, out, err = end_of(count, *arguments, **given)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert err.endswith("; see --help\n")


def test_a_command_says_its_status_itself_where_it_must(monkeypatch, capsys):
    def leave() -> None:
        raise typer.Exit(7)

    assert end_of(leave, monkeypatch=monkeypatch, capsys=capsys)[0] == 7


@pytest.mark.parametrize(
    ("place", "problem"),
    [("absent/x.json", "No such file"), ("folder", "is a folder"), ("file/x.json", "Not a directory")],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, place, problem):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    done = []

    def work(json_file: JsonOption = None) -> None:
        done.append(json_file)

    given = {"monkeypatch": monkeypatch, "capsys": capsys}
    status, _, err = end_of(work, "--json", tmp_path / place, **given)
    assert (status, done) == (2, [])
    assert err.startswith(f"error: --json: {tmp_path / place} ")
    assert problem in err
    for path in (tmp_path / "new.json", tmp_path / "file", STDOUT, Path("/dev/null")):
        assert end_of(work, "--json", path, **given)[0] == 0
        assert done.pop() == path
    assert not (tmp_path / "new.json").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()

    def work(out: Annotated[Path, output_folder("--out", "Where to.")]) -> None:
        raise AssertionError("it was to be refused")

    status, _, err = end_of(work, "--out", tmp_path / "file" / "deep" / "er", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2
    assert err.startswith(f"error: --out: {tmp_path / 'file' / 'deep' / 'er'} cannot be written: ")

    def fine(out: Annotated[Path, output_folder("--out", "Where to.")]) -> None:
        assert not out.exists()

    assert end_of(fine, "--out", tmp_path / "deep" / "er", monkeypatch=monkeypatch, capsys=capsys)[0] == 0


def test_a_configuration_is_a_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "search.yaml").touch()

    def work(config: Annotated[Path, config_folder("What.")]) -> None:
        assert config.is_dir()

    given = {"monkeypatch": monkeypatch, "capsys": capsys}
    assert end_of(work, "--config", tmp_path, **given)[0] == 0
    assert "is a file; give the folder" in end_of(work, "--config", tmp_path / "search.yaml", **given)[2]
    assert "is not there" in end_of(work, "--config", tmp_path / "absent", **given)[2]


def test_one_name_means_the_same_in_all_commands():
    def commands(group):
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else (command,)

    found = {"--json": 0, "--config": 0, "--plot": 0}
    for app in (store.cli.app, search_stage.cli.app, model_stage.cli.app):
        for command in commands(typer.main.get_command(app)):
            for option in command.params:
                if option.opts[0] in found:
                    found[option.opts[0]] += 1
                    assert not option.is_flag, f"{command.name} {option.opts[0]} is a path"
                    assert option.callback is not None, f"{command.name} {option.opts[0]} is checked before the work"
    assert all(found.values()), found


@dataclass(frozen=True, slots=True)
class Numbers:
    found: tuple[float, ...]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    write_json(tmp_path / "f.json", {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": ("x", None, 3)})
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}, "d": ["x", None, 3]}
    write_json(tmp_path / "f.json", Numbers(found=(1.0, float("nan"))))
    assert json.loads((tmp_path / "f.json").read_text()) == {"found": [1.0, None]}
    with pytest.raises(StoreIOError, match="absent"):
        write_json(tmp_path / "absent" / "f.json", {})


def test_a_report_is_tables_json_beside_them_or_json_alone(tmp_path, capsys):
    show_report(["told"], {"a": 1}, None)
    assert capsys.readouterr().out == "told\n"
    show_report(["told"], {"a": 1}, tmp_path / "f.json")
    assert capsys.readouterr().out == "told\n"
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 1}
    show_report(["told"], {"a": 1}, STDOUT)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_text_is_printed_as_it_is(capsys):
    say("[red]" + "x" * 300, {"[dim]": "[b]", "count": 12345}, table("[a]", rows=[("[c]", 9876)], title="[t]"))
    shown = capsys.readouterr().out
    assert "[red]" + "x" * 300 + "\n" in shown
    for text in ("[dim]", "[b]", "12,345", "[a]", "[c]", "9,876", "[t]"):
        assert text in shown


def test_progress_is_drawn_on_a_terminal_only(capsys):
    with steps() as progress:
        progress("read", 0.5, rows=3)
        progress.counted("train", 3, 4)
    assert capsys.readouterr() == ("", "")


def test_a_worker_ends_as_a_command_does_without_loading_one():
    code = (
        "import sys, search_stage.serving.workers, search_stage.serving.server, store.terminal\n"
        "assert not {'typer', 'click', 'rich.progress', 'search_stage.cli', 'store.cli'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_errors_have_one_root():
    for root in (StoreError, search_stage.errors.SearchError, model_stage.errors.ModelError):
        assert issubclass(root, LookbackError)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (2 << 50, "2,048.0 TiB")]
)
def test_sizes_as_text(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(("age_ms", "text"), [(1500, "1.5 seconds"), (90_000, "1.5 minutes"), (86_400_000, "1.0 days")])
def test_ages_as_text(age_ms, text):
    assert age_text(age_ms) == text
