"""What a release is made of, and whether any of it has a known hole: `python -m scripts.checks.release`.

`make dist` runs it. Writes `dist/lookback.cdx.json`, a CycloneDX list of what `pip install 'lookback[cpu]'` installs,
with versions, licenses and what needs what, and asks for the known holes of every package on it (pip-audit). Fails if
there is one, or if that cannot be found out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "dist" / "lookback.cdx.json"
ROOT_NAME = "lookback"
EXTRAS = ("cpu",)
Bom = dict[str, Any]


def main() -> int:
    """Writes the list and asks; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unaudited", action="store_true", help="do not ask for known holes, and say so")
    arguments = parser.parse_args()
    bom = pruned(whole_environment(), needed(importlib.metadata.requires))
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text(json.dumps(bom, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{LIST.relative_to(ROOT)}: {len(bom['components'])} packages")
    if arguments.unaudited:
        print("NOT AUDITED: nobody has looked for known holes of these packages", file=sys.stderr)
        return 0
    problems = audit(bom)
    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    print("audit: " + ("not ok" if problems else f"no known hole in {len(bom['components'])} packages"))
    return 1 if problems else 0


def whole_environment() -> Bom:
    """Gives the list of everything installed here, tools of developers too."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")),
            *("--output-reproducible", "--of", "JSON", "-o", "-", sys.executable),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    bom: Bom = json.loads(done.stdout)
    return bom


def needed(requires: Callable[[str], list[str] | None]) -> dict[str, set[str]]:
    """Gives what a user gets installed with lookback, and what each of these packages needs.

    Args:
        requires: Gives the requirements of a package by its name, as `importlib.metadata.requires`.

    Raises:
        importlib.metadata.PackageNotFoundError: Of `requires`; one of them is not installed.
    """
    found: dict[str, set[str]] = {}
    ahead = [(ROOT_NAME, frozenset(EXTRAS))]
    seen = set(ahead)
    while ahead:
        name, extras = ahead.pop()
        needs = found.setdefault(name, set())
        for requirement in map(Requirement, requires(name) or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                needs.add(step[0])
                if step not in seen:
                    seen.add(step)
                    ahead.append(step)
    return found


def pruned(bom: Bom, wanted: dict[str, set[str]]) -> Bom:
    """Gives a list without what only developers have.

    Args:
        bom: The list of everything installed.
        wanted: What is to stay, with what each needs, by canonical names.
    """
    root = bom["metadata"]["component"]["bom-ref"]
    stays = {canonicalize_name(each["name"]): each for each in bom["components"]}
    refs = {name: stays[name]["bom-ref"] if name != ROOT_NAME else root for name in sorted(wanted)}
    return {
        **bom,
        "components": [stays[name] for name in refs if name != ROOT_NAME],
        "dependencies": [
            {"ref": ref, **({"dependsOn": sorted(refs[each] for each in wanted[name])} if wanted[name] else {})}
            for name, ref in refs.items()
        ],
    }


def audit(bom: Bom) -> list[str]:
    """Gives the known holes of the packages on a list, and which of them nobody could tell about."""
    # A build of one's own ("+cpu") is the public version as far as holes are concerned.
    pins = [f"{each['name']}=={each['version'].partition('+')[0]}" for each in bom["components"]]
    with TemporaryDirectory() as folder:
        asked = Path(folder) / "requirements.txt"
        asked.write_text("\n".join(pins) + "\n")
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "-r",
            str(asked),
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [f"pip-audit did not answer: {reason}"]
    return problems_of(answers, len(pins))


def problems_of(answers: list[dict[str, Any]], asked: int) -> list[str]:
    """Gives what is wrong by pip-audit's answers: holes, and packages that it could not judge.

    Args:
        answers: One for each package.
        asked: How many packages it was asked about.
    """
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for each in answers
        for hole in each.get("vulns", [])
    ]
    unknown = [each["name"] for each in answers if "skip_reason" in each]
    if unknown or len(answers) < asked:
        holes.append(
            f"nothing is known about {len(unknown) + asked - len(answers)} of {asked} packages, as "
            f"{', '.join(unknown[:3]) or 'those that were left out'}: is the database of holes within reach? "
            "`--unaudited` goes on without it"
        )
    return holes


if __name__ == "__main__":
    sys.exit(main())
