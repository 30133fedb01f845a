"""The list of runs, and how one of them is made."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.evidence import network, numbers, trees
from scripts.evidence.code import code_digest
from scripts.evidence.configuration import configuration, known_preset
from scripts.evidence.numbers import plain_name, with_columns, with_fields
from scripts.evidence.results import measured, new_run
from scripts.evidence.sets import TREES
from scripts.evidence.shared import data_of, prepare, shared_of
from scripts.evidence.slices import slices_of
from scripts.pipeline import CONFIGS
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from scripts.evidence.configuration import Configuration
    from scripts.evidence.results import Run
    from scripts.evidence.sets import EvidenceSet
    from scripts.evidence.shared import Shared
    from scripts.pipeline import OnProgress
    from store.types import Bool

    OnNote = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to make."""

    shared: Shared
    set: str
    preset: str
    seed: int

    @property
    def name(self) -> tuple[str, str, int]:
        """Set, preset and seed."""
        return self.set, self.preset, self.seed

    @property
    def key(self) -> str:
        """Digest of everything that its numbers follow from."""
        if self.preset == TREES:
            return trees.key_of(self.shared, self.seed)
        more = (numbers.__name__,) if self.has_numbers else ()
        return network.key_of(self.shared, self._used, self.seed, *more)

    @property
    def has_numbers(self) -> bool:
        """Whether its network is also given the hand-made numbers of the trees."""
        return self.preset != plain_name(self.preset)

    @property
    def _used(self) -> Configuration:
        used = configuration(self.shared.config, plain_name(self.preset))
        return with_fields(used) if self.has_numbers else used

    def make(self, on_progress: OnProgress) -> Run:
        """Makes the run; what runs of the set share is made first, if it is not there."""
        if self.preset == TREES:
            outcome = trees.run_trees(self.shared, self.seed)
        else:
            prepare(self.shared, on_progress)
            shared = with_columns(self.shared) if self.has_numbers else self.shared
            outcome = network.run_network(shared, self._used, self.seed, on_progress)
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return new_run(self.name, self.key, made, measured(outcome, _slices(self.shared)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run."""

    jobs: list[Job]
    """Seed by seed, so that what is there first is comparable."""
    work: Path
    """Where everything is kept."""
    shared: dict[str, Shared]
    """Of each set."""
    left_out: list[str]
    """What cannot be run, in words."""


def plan(sets: Sequence[EvidenceSet], presets: Sequence[str], seeds: Sequence[int], work: Path, note: OnNote) -> Plan:
    """Lists the runs of some sets, presets and seeds; makes datasets that are not there.

    Args:
        sets: Which.
        presets: Names; empty = those that each set asks.
        seeds: Numbers; empty = those of each set.
        work: Where everything is kept.
        note: Told what begins.
    """
    found: dict[str, Shared] = {}
    left_out: list[str] = []
    for one in sets:
        note(f"dataset of {one.name}")
        try:
            found[one.name] = shared_of(one, data_of(one, work), work)
        except InputError as error:
            left_out.append(f"set {one.name}: {error}")
    wanted = {one.name: [name for name in one.presets if not presets or name in presets] for one in sets}
    for one in sets:
        # A preset that is asked for by name need not be one that the set asks.
        wanted[one.name] += [name for name in presets if name not in one.presets]
        for name in [name for name in wanted[one.name] if not _known(one, name)]:
            left_out.append(f"preset {name} of {one.name}: there is none of this name")
            wanted[one.name].remove(name)
    jobs = [
        Job(shared=found[one.name], set=one.name, preset=preset, seed=seed)
        for seed in (seeds or sorted({seed for one in sets for seed in one.seeds}))
        for one in sets
        if one.name in found and (seeds or seed in one.seeds)
        for preset in wanted[one.name]
    ]
    return Plan(jobs=jobs, work=work, shared=found, left_out=left_out)


def _known(one: EvidenceSet, preset: str) -> bool:
    return preset == TREES or known_preset(CONFIGS / one.config, plain_name(preset))


def _slices(shared: Shared) -> Mapping[str, Bool]:
    """Gives the slices of the test split, kept on disk."""
    file = shared.data.parent / f"slices-{shared.data_digest[:6]}{code_digest(slices_of.__module__)[:6]}.npz"
    if not file.is_file():
        half = file.with_suffix(".half.npz")
        np.savez(half, **slices_of(shared.data))  # type: ignore[arg-type] -- its flags are keywords, too
        half.rename(file)
    with np.load(file) as slices:
        return dict(slices.items())
