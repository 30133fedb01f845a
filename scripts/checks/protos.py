"""Checks `protos/`: style, compatibility with the last release, and that the committed code is what they generate."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from scripts.checks.generate_protos import ROOT, generate

BUF = Path(sys.executable).parent / "buf"
"""From the PyPI package buf-bin, beside the Python that runs this."""


def _run(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout.strip()


def check_style() -> list[str]:
    """Gives what buf's STANDARD rules find wrong with the .proto files."""
    status, output = _run(BUF, "lint", ".")
    return [f"buf lint:\n{output}"] if status else []


def check_compatible(before: Path) -> list[str]:
    """Gives the changes that would break a client built from the checkout `before`."""
    status, output = _run(BUF, "breaking", ".", "--against", before, "--against-config", "buf.yaml")
    return [f"buf breaking:\n{output}"] if status else []


def check_against_release() -> list[str]:
    """Gives the changes that break clients of the newest release HEAD descends from; says so where there is none."""
    status, tag = _run("git", "describe", "--tags", "--abbrev=0", "--match", "v*")
    if status:
        print("buf breaking: skipped, there is no release tag (v*) yet")
        return []
    archive = subprocess.run(["git", "archive", tag, "protos"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        return check_compatible(Path(folder))


def check_generated(root: Path = ROOT) -> list[str]:
    """Gives the generated files under `root` that differ from what the .proto files generate now, or have no .proto."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = {path: (Path(folder) / path).read_bytes() for path in generate(Path(folder))}
    committed = {path.relative_to(root) for path in (root / "protos").rglob("*_pb2*") if path.suffix in (".py", ".pyi")}
    stale = [path for path, content in fresh.items() if path not in committed or (root / path).read_bytes() != content]
    return [f"{path}: not what the .proto generates; run `make protos`" for path in stale] + [
        f"{path}: no .proto generates it; delete it" for path in sorted(committed - fresh.keys())
    ]


def main() -> int:
    """Runs every check and prints what is wrong; exit status for the shell."""
    problems = check_style() + check_against_release() + check_generated()
    for problem in problems:
        print(problem, file=sys.stderr)
    print("protos: " + ("NOT in order" if problems else "in order"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
