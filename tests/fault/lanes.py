"""Many small experiments, as many at a time as there are cores."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.fault.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any


def in_lanes(folder: Path, tally: Tally, cases: Sequence[Any], run: Callable[[Tally, Path, Any], None]) -> None:
    """Runs every case, some side by side: those of one lane one after another, in a folder of their own.

    Args:
        folder: Where the lanes' folders are made.
        tally: Takes what all of them counted.
        cases: What to try. Which lane takes which does not depend on time, so that a seed repeats everything.
        run: Runs one case in its lane's folder. It works in child processes, so that lanes do not wait for each other.
    """
    count = max(1, min(os.cpu_count() or 1, len(cases)))
    failed: list[BaseException] = []

    def lane(number: int) -> Tally:
        mine, place = Tally(""), folder / f"lane-{number}"
        place.mkdir()
        for case in cases[number::count]:
            if failed:
                break
            try:
                run(mine, place, case)
            except BaseException as exc:
                failed.append(exc)
                raise
        return mine

    with ThreadPoolExecutor(count) as pool:
        for found in pool.map(lane, range(count)):
            tally += found
