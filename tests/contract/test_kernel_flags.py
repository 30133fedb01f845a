"""What the compiler may do to a kernel is said in one table: no kernel sets an option, or imports numba, by itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from store import compiled
from store.compiled import FLAGS

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = CHECKOUT / "search_stage" / "kernels"
OUTSIDE = [
    path
    for folder in ("store", "serving", "search_stage", "model_stage", "scripts")
    for path in (CHECKOUT / folder).rglob("*.py")
    if path != CHECKOUT / "store" / "compiled.py" and path.parent != HOME
]
KERNELS = [*(path for path in OUTSIDE if path.name.endswith("_kernels.py")), HOME / "sorting.py", HOME / "distinct.py"]


def imports(tree: ast.AST) -> set[str]:
    """Gives the packages that a module imports, inside functions too."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def decorators(tree: ast.AST) -> list[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [ast.unparse(decorator) for function in functions for decorator in function.decorator_list]


def test_only_kernels_imports_the_compiler():
    assert [path for path in OUTSIDE if imports(ast.parse(path.read_text())) & {"numba", "llvmlite"}] == []


def test_a_kernel_takes_one_of_the_five_decorators_as_it_is():
    found = {decorator for path in OUTSIDE for decorator in decorators(ast.parse(path.read_text()))}
    assert {name for name in found if re.search(r"kernel|jit|vectorize|stencil", name)} == set(FLAGS)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_every_function_of_a_file_of_kernels_is_compiled(path):
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert functions
    assert [function.name for function in functions if not FLAGS.keys() & decorators(function)] == []


@pytest.mark.parametrize("flags", FLAGS)
def test_a_decorator_sets_what_the_table_says(flags):
    made = getattr(compiled, flags)(lambda values: values)
    common = {"nogil": True, "error_model": "numpy", "_nrt": True, "nopython": True, "boundscheck": None}
    assert made.targetoptions == {**common, **FLAGS[flags]}
