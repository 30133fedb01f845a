"""Damages files one case after another, in a child process, and tells what became of each."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from store import BehaviorStore
from store.errors import GenerationError, StoreError
from tests.fault import jobs
from tests.fault.children import run_child

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from tests.fault.tally import Tally

REFUSED, HARMLESS, WRONG = "refused", "harmless", "wrong"


@dataclass(frozen=True, slots=True)
class Damage:
    """One file cut short, or with one bit flipped."""

    path: Path
    cut: int | None = None
    """Bytes that are left of it."""
    bit: int | None = None
    """Number of the bit that is flipped."""

    @contextmanager
    def done(self) -> Iterator[None]:
        """Damages the file for as long as the context lasts."""
        data = self.path.read_bytes()
        bad = bytearray(data if self.cut is None else data[: self.cut])
        if self.bit is not None:
            bad[self.bit // 8] ^= 1 << self.bit % 8
        self.path.write_bytes(bad)
        try:
            yield
        finally:
            self.path.write_bytes(data)


def random_flips(rng: random.Random, files: Sequence[Path], count: int) -> list[Damage]:
    """Gives flips of random bits, every file with as many as befit its size, and at least one."""
    sizes = [path.stat().st_size * 8 for path in files]
    chosen = list(range(len(files))) + rng.choices(range(len(files)), sizes, k=max(0, count - len(files)))
    return [Damage(files[at], bit=rng.randrange(sizes[at])) for at in chosen[:count] if sizes[at]]


def try_all(
    tally: Tally, log: Path, cases: Sequence[Damage], attempt: Callable[..., None], *args: object
) -> dict[str, int]:
    """Tries every case in a child process; after one that kills the child, goes on in another child.

    Args:
        tally: Counts the cases, and what was served although it was wrong.
        log: File for what became of each case.
        cases: What to damage.
        attempt: Called with the rest of the cases, the log, and `args`.

    Returns:
        How many were refused, and how many harmless.
    """
    results: list[str] = []
    crashes: list[Damage] = []
    while len(results) < len(cases):
        log.unlink(missing_ok=True)
        rest = cases[len(results) :]
        intact = {case.path: case.path.read_bytes() for case in rest}
        outcome = run_child(attempt, rest, log, *args)
        assert outcome.error is None, outcome.error
        results += log.read_text().splitlines() if log.exists() else []
        for path, data in intact.items():
            path.write_bytes(data)
        if not outcome.done:
            crashes.append(cases[len(results)])
            results.append(f"died of signal {-(outcome.exit_code or 0)}")
    tally.runs += len(cases)
    tally.injected += len(cases)
    counts = {kind: results.count(kind) for kind in (REFUSED, HARMLESS)}
    bad = [f"{case}: {result}" for case, result in zip(cases, results, strict=True) if result not in counts]
    tally.corrupt += len(bad)
    tally.note = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    assert not bad, "\n".join([f"{len(bad)} of {len(cases)}, {len(crashes)} of them crashes", *bad[:10]])
    return counts


def attempt_reload(cases: Sequence[Damage], log: Path, root: Path, good: str, expected: jobs.Found) -> None:
    """Damages the current generation while an older one is served: a reload is refused, and that one goes on."""
    store = BehaviorStore.open(root, good)
    user = 0
    with log.open("a") as out:
        for case in cases:
            with case.done():
                try:
                    store.reload()
                except GenerationError:
                    result = REFUSED
                except Exception as exc:
                    result = f"an error that is none of the store's: {exc!r}".replace("\n", " ")
                else:
                    result = HARMLESS if jobs.inspect(root).digest == expected.digest else WRONG
                    store = BehaviorStore.open(root, good)
            user = (user + 1) % 40
            if store.generation != good or store.history(user).item.tolist() != _history(root, good, user):
                result = "the last good generation was not served"
            out.write(result + "\n")
            out.flush()


def attempt_open(cases: Sequence[Damage], log: Path, root: Path, expected: jobs.Found) -> None:
    """Damages a file and then opens, reads and audits the store."""
    with log.open("a") as out:
        for case in cases:
            with case.done():
                try:
                    found = jobs.inspect(root)
                except StoreError:
                    result = REFUSED
                except Exception as exc:
                    result = f"an error that is none of the store's: {exc!r}".replace("\n", " ")
                else:
                    result = HARMLESS if _said(found) == _said(expected) else WRONG
            out.write(result + "\n")
            out.flush()


def _said(found: jobs.Found) -> tuple[object, ...]:
    return found.digest, found.numbers.tolist(), found.deleted, found.others, found.wrong


_HISTORIES: dict[tuple[str, int], list[int]] = {}


def _history(root: Path, generation: str, user: int) -> list[int]:
    """Gives what a generation said of a user when it was asked first."""
    if (generation, user) not in _HISTORIES:
        with BehaviorStore.open(root, generation) as store:
            _HISTORIES[generation, user] = store.history(user).item.tolist()
    return _HISTORIES[generation, user]
