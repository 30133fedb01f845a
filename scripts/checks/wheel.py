"""Builds the wheel and checks what a user would get: `python -m scripts.checks.wheel`.

The wheel must hold the four packages with their data and nothing else, and import from an empty folder outside the
checkout. Its dependencies are taken from the running environment, so that no network is needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("model_stage", "protos", "search_stage", "serving", "store")
REQUIRED = (
    "protos/lookback/ranking/v1/ranking.proto",
    "protos/lookback/ranking/v1/ranking_pb2.pyi",
    "protos/lookback/search/v1/search.proto",
    "protos/lookback/search/v1/search_pb2_grpc.py",
    "protos/py.typed",
    "model_stage/py.typed",
    "model_stage/report/page.html",
    "search_stage/py.typed",
    "search_stage/search.yaml",
    "store/FORMAT.md",
    "store/py.typed",
    *(str(preset.relative_to(ROOT)) for preset in sorted((ROOT / "model_stage" / "presets").glob("*.yaml"))),
)
COMMANDS = ("store", "search_stage", "model_stage")


def main() -> int:
    """Builds, inspects and imports the wheel; gives the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        problems = check_contents(wheel)
        site = Path(folder) / "site"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        problems += check_imports(site)
    for problem in problems:
        print(f"wheel: {problem}", file=sys.stderr)
    print("wheel: " + ("not ok" if problems else "ok"))
    return 1 if problems else 0


def check_contents(wheel: Path) -> list[str]:
    """Gives what is missing from the wheel, and what should not be in it."""
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in names}
    problems = [f"{name} is missing" for name in REQUIRED if name not in names]
    extra = [name for name in top if name not in PACKAGES and not name.endswith(".dist-info")]
    return problems + [f"{name} does not belong in the wheel" for name in sorted(extra)]


def check_imports(site: Path) -> list[str]:
    """Imports the packages and runs the three commands from the unpacked wheel, outside the checkout."""
    problems = []
    # The working folder comes first on the path of `python -c` and `-m`: the unpacked wheel, not the checkout.
    code = f"import {', '.join(PACKAGES)}; assert store.__file__.startswith({str(site)!r}), store.__file__"
    attempts = [["-c", code]] + [["-m", package, "--help"] for package in COMMANDS]
    for arguments in attempts:
        done = subprocess.run([sys.executable, *arguments], cwd=site, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problems.append(f"python {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1:]}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
