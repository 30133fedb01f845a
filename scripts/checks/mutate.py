"""Shows that the tests can fail: makes each wrong change of `tests/mutations/*.toml`, one at a time, and expects red.

`make mutate`, by hand before a release: a quarter of an hour. mutmut and cosmic-ray make up their changes themselves;
these are chosen, each breaks one promise of the design. All happens in copies of the working tree, in a folder that
goes away.
"""

from __future__ import annotations

import argparse
import os
import queue
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
from dataclasses import dataclass, fields
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the tests said to a change."""

    mutation: Mutation
    outcome: str
    """red, green (the tests miss it), or broken (they could not run)."""
    duration_s: float
    output: str


def load_mutations(root: Path) -> list[Mutation]:
    """Reads the list and checks that every change can still be made.

    Raises:
        MutationListError: A key is missing or unknown, an id stands twice, or a file or text is not there.
    """
    mutations = []
    for path in sorted(root.glob(_LISTS)):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]:
            unknown = set(row) - {field.name for field in fields(Mutation)}
            try:
                mutations.append(Mutation(**{**row, "tests": tuple(row["tests"])}))
            except (KeyError, TypeError) as exc:
                raise MutationListError(f"{path}: {row.get('id')}: {exc}; unknown keys: {sorted(unknown)}") from exc
    problems = _find_problems(mutations, root)
    if problems:
        raise MutationListError("\n".join(problems))
    return mutations


def _find_problems(mutations: Sequence[Mutation], root: Path) -> list[str]:
    counts = Counter(mutation.id for mutation in mutations)
    problems = [f"{name}: this id stands there {count} times" for name, count in counts.items() if count > 1]
    for mutation in mutations:
        try:
            mutation.apply((root / mutation.file).read_text(encoding="utf-8"))
        except (OSError, MutationListError) as exc:
            problems.append(str(exc))
        missing = [test for test in mutation.tests if not (root / test.partition("::")[0]).exists()]
        problems += [f"{mutation.id}: {test}: there is no such test file" for test in missing]
        if not mutation.tests:
            problems.append(f"{mutation.id}: names no test")
    return problems


def copy_checkout(source: Path, folder: Path) -> None:
    """Copies what git knows or would take, and compiled kernels; times of files too, by which these are told valid."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    kernels = [path.relative_to(source) for path in (source / "search_stage").rglob("__pycache__/*.nb[ic]")]
    for path in (*paths, *kernels):
        if (source / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / path, folder / path)


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
            _end_session(process)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends the run and whatever servers a killed test left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def judge(mutation: Mutation, folder: Path) -> Verdict:
    """Makes a change in a copy, runs its tests, and takes the change back."""
    path = folder / mutation.file
    kept = path.with_name(f"{path.name}.kept")
    started = time.monotonic()
    path.rename(kept)
    try:
        path.write_text(mutation.apply(kept.read_text(encoding="utf-8")), encoding="utf-8")
        status, output = run_tests(folder, mutation.tests, interpreted=mutation.interpreted)
    finally:
        kept.replace(path)  # with the time it had
    outcome = {_PYTEST_PASSED: "green", _PYTEST_FAILED: "red"}.get(status, "broken")
    return Verdict(mutation=mutation, outcome=outcome, duration_s=time.monotonic() - started, output=output)


@contextmanager
def _copies(count: int) -> Iterator[queue.Queue[Path]]:
    with tempfile.TemporaryDirectory(prefix="lookback-mutate-") as name:
        folders: queue.Queue[Path] = queue.Queue()
        for number in range(count):
            folder = Path(name) / f"copy{number}"
            copy_checkout(ROOT, folder)
            folders.put(folder)
        yield folders


def judge_all(mutations: Sequence[Mutation], lanes: int) -> list[Verdict]:
    """Checks that the named tests are green as things are, then makes every change; prints a line for each.

    Raises:
        MutationListError: A test is red without any change.
    """
    with _copies(lanes) as folders, ThreadPoolExecutor(lanes) as pool:
        folder = folders.get()
        for interpreted in (False, True):
            tests = sorted({test for one in mutations if one.interpreted == interpreted for test in one.tests})
            status, output = (
                run_tests(folder, tests, interpreted=interpreted, side_by_side=lanes) if tests else (_PYTEST_PASSED, "")
            )
            if status != _PYTEST_PASSED:
                raise MutationListError(f"{output}\nthe named tests are not green without any change")
        folders.put(folder)
        print(f"the named tests are green without any change; {len(mutations)} changes", flush=True)

        def work(mutation: Mutation) -> Verdict:
            folder = folders.get()
            try:
                verdict = judge(mutation, folder)
            finally:
                folders.put(folder)
            print(f"{verdict.outcome:<6}  {verdict.duration_s:5.1f} s  {mutation.id}: {mutation.why}", flush=True)
            return verdict

        return list(pool.map(work, mutations))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the list; gives the exit status: 0 when every change turned its tests red."""
    parser = argparse.ArgumentParser(prog="python -m scripts.checks.mutate", description=__doc__)
    parser.add_argument("ids", nargs="*", help="only these changes")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="changes tried side by side")
    parser.add_argument("--verbose", action="store_true", help="print what the tests of a change that is not red said")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        mutations = load_mutations(ROOT)
        unknown = set(options.ids) - {mutation.id for mutation in mutations}
        if unknown:
            raise MutationListError(f"no such change: {', '.join(sorted(unknown))}")
        verdicts = judge_all([one for one in mutations if not options.ids or one.id in options.ids], options.lanes)
    except MutationListError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    missed = [verdict for verdict in verdicts if verdict.outcome != "red"]
    for verdict in missed:
        print(f"\n{verdict.outcome}: {verdict.mutation.id} ({verdict.mutation.file})")
        if options.verbose or verdict.outcome == "broken":
            print(verdict.output[-3000:])
    print(f"{len(verdicts) - len(missed)} of {len(verdicts)} changes red, {time.monotonic() - started:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
