"""A digest of the code that a run is made by: of the modules that it imports, without what changes no number."""

from __future__ import annotations

import ast
import functools
import hashlib
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("store", "search_stage", "model_stage", "scripts")
SHOWN_OR_SENT = ("cli", "serving", "terminal", "command")
"""Modules and folders that only print or serve: what they say changes no number."""
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "numba")


@functools.cache
def code_digest(*modules: str) -> str:
    """Gives a hash of these modules and of all of the project that they import, and of the libraries' versions.

    Imports inside functions count, those for type checkers alone do not. Comments, docstrings and layout do not count.
    A process that was asked once answers the same until it ends: what it runs does not change either.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_Closure().over(modules).items()):
        digest.update(f"{name} {_content(path)}\n".encode())
    for name in LIBRARIES:
        digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()[:32]


@dataclass
class _Closure:
    found: dict[str, Path] = field(default_factory=dict)

    def over(self, modules: Iterable[str]) -> dict[str, Path]:
        """Gives the files of modules and of what they import, by the modules' names."""
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            path = _file_of(name)
            if path is None or name in self.found:
                continue
            self.found[name] = path
            waiting += [name.rpartition(".")[0], *_imports(_parsed(path))]
        return self.found


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in _at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (_source(node.module, alias.name) for alias in node.names)


def _source(module: str, name: str) -> str:
    """Gives the module that `from module import name` takes the name of."""
    if _file_of(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    stub = CHECKOUT.joinpath(*module.split("."), "__init__.pyi")
    if stub.is_file():
        for node in _parsed(stub).body:
            if isinstance(node, ast.ImportFrom) and any(name in (a.asname, a.name) for a in node.names):
                assert node.module is not None
                return f"{module}.{node.module}" if node.level else node.module
    return module


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _at_run_time(other)
            continue
        yield child
        yield from _at_run_time(child)


def _file_of(module: str) -> Path | None:
    """Gives the file of a module of the project; None = it is another's, is none, or only shows or sends."""
    parts = module.split(".")
    if parts[0] not in PACKAGES or any(part in SHOWN_OR_SENT for part in parts):
        return None
    path = CHECKOUT.joinpath(*parts)
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _content(path: Path) -> str:
    return ast.dump(_without_docstrings(_parsed(path)))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Takes away every string that stands as a statement: docstrings, also those of fields and constants."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
