"""What README and CONTRIBUTING tell a reader to run exists: commands, their options, make targets, script modules."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

import model_stage.cli
import search_stage.cli
import store.cli

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
TEXTS = README + (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
APPS = {
    "lookback-store": store.cli.app,
    "lookback-search": search_stage.cli.app,
    "lookback-model": model_stage.cli.app,
}
JOINED = README.replace("\\\n", " ")
COMMANDS = re.findall(
    r"^ {4}(lookback-\w+) ((?:taxonomy |bundle |targets )?[\w-]+)(.*?)(?:#.*)?$", JOINED, flags=re.MULTILINE
)


def commands_of(group, prefix=""):
    """All commands of a group and of the groups in it, by what a user types."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_the_readme_shows_every_command():
    shown = {(program, command) for program, command, _ in COMMANDS}
    declared = {
        (program, name) for program, app in APPS.items() for name, _ in commands_of(typer.main.get_command(app))
    }
    assert declared == shown


@pytest.mark.parametrize(("program", "command", "arguments"), COMMANDS)
def test_commands_of_the_readme_have_the_options_it_gives_them(program, command, arguments):
    declared = dict(commands_of(typer.main.get_command(APPS[program]))).get(command)
    assert declared is not None, f"{program} has no {command}"
    options = {name: parameter for parameter in declared.params for name in parameter.opts}
    given = set(re.findall(r"--[\w-]+", arguments))
    assert given <= options.keys()
    required = [parameter for parameter in declared.params if parameter.required]
    missing = {parameter.opts[0] for parameter in required if parameter.param_type_name == "option"} - given
    assert not missing, f"{program} {command} needs {missing}"


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)", TEXTS)) | set(
        re.findall(r"^ {4}make ([\w-]+)", TEXTS, flags=re.MULTILINE)
    )
    assert {"demo", "test", "check"} <= named
    assert named <= targets


def test_script_modules_and_linked_files_exist():
    modules = set(re.findall(r"python -m (scripts\.[\w.]+)", TEXTS))
    assert modules
    for module in modules:
        assert importlib.util.find_spec(module) is not None, module
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXTS):
        assert (CHECKOUT / link).exists(), link
