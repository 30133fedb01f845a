"""Shows that the tests can fail: makes each wrong change of `tests/mutations/*.toml`, one at a time, and expects red.

`make mutate`, by hand before a release: a quarter of an hour. mutmut and cosmic-ray make up their changes themselves;
these are chosen, each breaks one promise of the design. All happens in copies of the working tree, in a folder that
goes away.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
_LISTS = "tests/mutations/*.toml"
_TEST_S = 90
_LIMIT_S = 600
_PYTEST_PASSED, _PYTEST_FAILED = 0, 1


class MutationListError(Exception):
    """The list of changes does not fit the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One wrong change, and the tests that must see it."""

    id: str
    file: str
    """Path from the root of the checkout."""
    find: str
    """Text that stands exactly once in the file."""
    replace: str
    why: str
    """What would break in the world."""
    tests: tuple[str, ...]
    """What to give pytest; the fewer, the faster."""
    interpreted: bool = False
    """Whether kernels run as plain Python: for a change inside of one, which would have to be compiled."""

    def apply(self, text: str) -> str:
        """Gives the changed text of the file.

        Raises:
            MutationListError: The text to change is not there, or more than once, or the same afterwards.
        """
        count = text.count(self.find)
        if count != 1 or self.find == self.replace:
            raise MutationListError(f"{self.id}: `find` stands {count} times in {self.file}, or nothing is replaced")
        return text.replace(self.find, self.replace)


def load_mutations(root: Path) -> list[Mutation]:
    """Reads the list and checks that every change can still be made.

    Raises:
        MutationListError: A key is missing or unknown, an id stands twice, or a file or text is not there.
    """
    mutations = []
    for path in sorted(root.glob(_LISTS)):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]:
            try:
                mutations.append(Mutation(**{**row, "tests": tuple(row["tests"])}))
            except (KeyError, TypeError) as exc:
                raise MutationListError(f"{path}: {row.get('id')}: {exc}") from exc
    counts = Counter(mutation.id for mutation in mutations)
    problems = [f"{name}: this id stands there {count} times" for name, count in counts.items() if count > 1]
    problems += [problem for mutation in mutations for problem in _find_problems(mutation, root)]
    if problems:
        raise MutationListError("\n".join(problems))
    return mutations


def _find_problems(mutation: Mutation, root: Path) -> Iterator[str]:
    try:
        mutation.apply((root / mutation.file).read_text(encoding="utf-8"))
    except (OSError, MutationListError) as exc:
        yield str(exc)
    for test in mutation.tests:
        if not (root / test.partition("::")[0]).exists():
            yield f"{mutation.id}: {test}: there is no such test file"
    if not mutation.tests:
        yield f"{mutation.id}: names no test"


@contextmanager
def copy_of(source: Path) -> Iterator[Path]:
    """Copies what git knows or would take, and compiled kernels; times of files too, by which these are told valid."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source, capture_output=True, check=True).stdout.decode()
    kernels = [path.relative_to(source) for path in (source / "search_stage").rglob("__pycache__/*.nb[ic]")]
    with tempfile.TemporaryDirectory(prefix="lookback-mutate-") as name:
        folder = Path(name)
        for path in (*listed.split("\0"), *kernels):
            if (source / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / path, folder / path)
        yield folder


def run_tests(
    folder: Path, tests: Sequence[str], *, interpreted: bool = False, side_by_side: int = 0
) -> tuple[int, str]:
    """Runs tests in a copy; gives pytest's exit status and what it printed. One that hangs counts as failed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    options = ["-x", "-p", "no:cacheprovider", f"--timeout={_TEST_S}"]
    if interpreted:
        environment["NUMBA_DISABLE_JIT"] = "1"
        options += ["-W", "ignore:overflow encountered:RuntimeWarning"]  # hashes overflow by design
    if side_by_side:
        options += ["-n", str(side_by_side), "--dist", "loadfile"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            status = _PYTEST_FAILED
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and whatever servers a killed test left behind
            process.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace")


def judge(mutation: Mutation, source: Path) -> tuple[str, str]:
    """Makes a change in a copy of the checkout and runs its tests there.

    Returns:
        red, green (the tests miss it), or broken (they could not run); and what to print.
    """
    started = time.monotonic()
    with copy_of(source) as folder:
        path = folder / mutation.file
        path.write_text(mutation.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
        status, output = run_tests(folder, mutation.tests, interpreted=mutation.interpreted)
    outcome = {_PYTEST_PASSED: "green", _PYTEST_FAILED: "red"}.get(status, "broken")
    text = f"{outcome:<6}  {time.monotonic() - started:5.1f} s  {mutation.id}: {mutation.why}"
    return outcome, f"{text}\n{output[-3000:]}" if outcome == "broken" else text


def check_unchanged(mutations: Sequence[Mutation], lanes: int) -> None:
    """Checks that the named tests are green as things are.

    Raises:
        MutationListError: A test is red without any change.
    """
    with copy_of(ROOT) as folder:
        for interpreted in (False, True):
            tests = sorted({test for one in mutations if one.interpreted == interpreted for test in one.tests})
            if tests:
                status, output = run_tests(folder, tests, interpreted=interpreted, side_by_side=lanes)
                if status != _PYTEST_PASSED:
                    raise MutationListError(f"{output}\nthe named tests are not green without any change")
    print(f"the named tests are green without any change; {len(mutations)} changes", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the list; gives the exit status: 0 when every change turned its tests red."""
    parser = argparse.ArgumentParser(prog="python -m scripts.checks.mutate", description=__doc__)
    parser.add_argument("ids", nargs="*", help="only these changes")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="changes tried side by side")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        mutations = load_mutations(ROOT)
        unknown = set(options.ids) - {mutation.id for mutation in mutations}
        if unknown:
            raise MutationListError(f"no such change: {', '.join(sorted(unknown))}")
        mutations = [one for one in mutations if not options.ids or one.id in options.ids]
        check_unchanged(mutations, options.lanes)
    except MutationListError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    missed = []
    with ThreadPoolExecutor(options.lanes) as pool:
        for outcome, text in pool.map(judge, mutations, itertools.repeat(ROOT)):
            print(text, flush=True)
            if outcome != "red":
                missed.append(text)
    print("\n".join(missed))
    print(f"{len(mutations) - len(missed)} of {len(mutations)} changes red, {time.monotonic() - started:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
