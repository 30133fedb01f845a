"""Writes the Python code and type stubs of `protos/**/*.proto`, with pinned tools in an environment of their own.

The tools are older than the run time on purpose: generated code runs with its own and later versions of grpcio and
protobuf only, so the generator's age sets the floor of what users may have installed. They live in `.venv-protos`,
because they would pull the project's own environment down to that floor.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-protos"
PINS = ("grpcio-tools==1.71.2", "protobuf==5.29.6", "mypy-protobuf==3.6.0", "setuptools==75.8.0")
"""grpcio-tools 1.71.2 imports pkg_resources, which later setuptools no longer have."""


def install_tools() -> Path:
    """Gives the Python of the tools' environment, which is made or mended first when the pins ask for it."""
    python = TOOLS / "bin" / "python"
    stamp = TOOLS / "pins.txt"
    wanted = "\n".join(PINS)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(TOOLS, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS], check=True)
        stamp.write_text(wanted)
    return python


def generate(target: Path) -> list[Path]:
    """Writes the generated files under `target` and gives their paths relative to it.

    protoc runs from the repository root, so that generated imports read `from protos.lookback...` in a checkout, an
    editable install and a wheel alike.

    Raises:
        subprocess.CalledProcessError: protoc or pip failed; its own words are on stderr.
    """
    python = install_tools()
    plugins = (f"--plugin=protoc-gen-{name}={TOOLS / 'bin' / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc"))
    outputs = (f"--{name}_out={target}" for name in ("python", "grpc_python"))
    stubs = (f"--{name}_out=quiet:{target}" for name in ("mypy", "mypy_grpc"))
    sources = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))
    subprocess.run(
        [python, "-m", "grpc_tools.protoc", "-I.", *plugins, *outputs, *stubs, *map(str, sources)],
        check=True,
        cwd=ROOT,
    )
    return sorted(
        source.with_name(source.stem + ending)
        for source in sources
        for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    )


def main() -> int:
    """Regenerates the committed code in place; exit status for the shell."""
    for path in generate(ROOT):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
