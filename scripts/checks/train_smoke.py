"""Gates of soft search and of every preset, by real trainings on a small world: `make train-smoke`, which CI runs.

What is gated: docs/search.md and docs/bundles.md (health). The world: `scripts/checks/smoke_world.py`.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from model_stage.bundle import load_bundle, new_network, save_bundle
from model_stage.calibration import Calibration
from model_stage.cli.search import example_folder
from model_stage.config.schema import Schema
from model_stage.config.targets import Targets
from model_stage.networks.preset import preset_names
from model_stage.training.health import SEARCHED
from model_stage.training.pipeline import ModelConfig, Recipe, train_bundle
from scripts.checks.smoke_world import write_smoke_world
from search_stage import IndexGeneration, SearchConfig, Searcher, build_index
from search_stage.study.study import SPEAKS, Settings, measure
from store import BehaviorStore, ingest
from store.command import JsonOption, command_line, run
from store.terminal import say, show_report, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SEARCH = SearchConfig.model_validate(
    {
        "hard": {"default": {"quota": 10, "min_matches": 1, "max_level": 1}},
        "soft": {"top_k": 20},
        "recent": {"top_k": 80},
        "statistics": {"levels": 2},
        "limits": {"max_newest": 1000},
    }
)
"""Everything is retrieved: what a table learns is not limited by what search finds."""
SCHEMA = Schema.model_validate(
    {
        "attention_dim": 16,
        "representation_dim": 16,
        "behavior_fields": ["tone"],
        "match_levels": 2,
        "fields": [{"name": "tone", "part": "behavior", "kind": "categorical"}],
    }
)
TARGETS = Targets.model_validate(
    {"targets": [{"name": "click", "positions": [{"kind": "interval", "buckets": 12, "span_days": 360}]}]}
)
SEARCH_PRESET, SEARCH_EPOCHS, PRESET_EPOCHS = "tin", 6, 2
SLOW_PRESETS, SLOW_EPOCHS = frozenset({"din_full", "din_short", "sim_hard", "sim_soft"}), 12
"""Their scores come out of layers that start near 0: attention leaves the mean it starts as only after some epochs."""
USERS = 60
"""Of each of the five samples that search is measured on."""
MARGIN = 0.05
"""Of NDCG@20: a table that learns nothing reaches .002 more than the untrained one, one that learns .2."""
MAX_OVERLAP, MIN_RANK = 0.3, 0.5
"""Jaccard index of the lists of two candidates of a request; effective rank, of the width of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One thing that must hold."""

    name: str
    value: float | str
    bar: str
    holds: bool


def main(
    presets: list[str] | None = typer.Option(None, "--preset", help="Only this preset; may be repeated."),
    jobs: int = typer.Option(2, min=1, help="Presets that train side by side."),
    json_file: JsonOption = None,
) -> None:
    """Trains on a small world and checks the gates; exit status 1 where one does not hold."""
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_smoke_world(work / "data")
        ingest(work / "data", work / "store")
        gates = [*search_gates(work), *preset_gates(work, presets or preset_names(), jobs)]
    rows = [(gate.name, _text(gate.value), gate.bar, "yes" if gate.holds else "NO") for gate in gates]
    seconds = time.monotonic() - start_s
    content = {"seconds": seconds, "gates": [{name: getattr(gate, name) for name in Gate.__slots__} for gate in gates]}
    show_report([table("gate", "measured", "bar", "holds", rows=rows), f"{seconds:.0f} s"], content, json_file)
    failed = [gate.name for gate in gates if not gate.holds]
    if failed:
        say(f"{len(failed)} of {len(gates)} gates do not hold: {', '.join(failed)}")
        sys.exit(1)


def search_gates(work: Path) -> Iterator[Gate]:
    """Trains a table on hard and recent retrieval, builds its index in `work`, and measures what it finds."""
    training = train_preset(work, SEARCH_PRESET, SEARCH_EPOCHS, work / "attention", None)
    health = training["health"][training["best_epoch"]]["tables"][SEARCHED]
    bundle = load_bundle(work / "attention")
    untrained = new_network(bundle.schema, bundle.targets, bundle.network_config, bundle.vocabularies, seed=0)
    save_bundle(
        work / "untrained",
        schema=bundle.schema,
        targets=bundle.targets,
        network_config=bundle.network_config,
        vocabularies=bundle.vocabularies,
        network=untrained,
        calibration=Calibration(),
        metrics={},
        provenance=bundle.provenance,
    )
    found = ndcg(work, "attention", "index")
    others = {"soft search by the untrained table": ndcg(work, "untrained", "index-untrained")["soft"]}
    others |= {"newest": found["newest"], "hard search": found["hard"]}
    for name, value in others.items():
        yield Gate(
            name=f"NDCG@20 of soft search above {name}",
            value=found["soft"],
            bar=f"> {value:.3f} + {MARGIN}",
            holds=found["soft"] > value + MARGIN,
        )
    overlap, rank, width = health["list_overlap"], health["effective_rank"], health["directions"]
    yield Gate(name="overlap of soft lists", value=overlap, bar=f"<= {MAX_OVERLAP}", holds=overlap <= MAX_OVERLAP)
    least = MIN_RANK * width
    yield Gate(name="effective rank of the attention table", value=rank, bar=f">= {least:g}", holds=rank >= least)


def preset_gates(work: Path, presets: list[str], jobs: int) -> Iterator[Gate]:
    """Trains every preset on what search with that index retrieves; none may end with a warning."""
    with futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {
            name: pool.submit(train_preset, work, name, epochs_of(name), work / "presets" / name, work / "index")
            for name in sorted(presets, key=lambda name: name not in SLOW_PRESETS)
        }
        for name, trained in waiting.items():
            training = trained.result()
            collapsed = training["health"][training["best_epoch"]]["collapsed"]
            said = "; ".join(collapsed) or "none"
            yield Gate(name=f"warnings about {name}", value=said, bar="none", holds=not collapsed)


def epochs_of(preset: str) -> int:
    """Gives how long a preset trains here."""
    return SLOW_EPOCHS if preset in SLOW_PRESETS else PRESET_EPOCHS


def train_preset(work: Path, preset: str, epochs: int, out: Path, index: Path | None) -> dict[str, Any]:
    """Trains a preset and publishes it under `out`; gives what training reports."""
    with BehaviorStore.open(work / "store") as store, store.snapshot() as snapshot:
        searcher = Searcher(store, None if index is None else IndexGeneration.open(index), SEARCH)
        trained = train_bundle(
            Recipe(schema=SCHEMA, targets=TARGETS, model=_model(preset, epochs)),
            work / "data",
            snapshot,
            searcher,
            out,
            examples=example_folder(work / "examples", searcher, index),
        )
    found: dict[str, Any] = trained.metrics["training"]
    return found


def ndcg(work: Path, bundle: str, index: str) -> Mapping[str, float]:
    """Builds an index of a bundle's table; gives NDCG@20 by ranking, as `lookback-search recall` measures it."""
    with BehaviorStore.open(work / "store") as store:
        build_index(work / bundle, store, work / index)
        table = IndexGeneration.open(work / index)
        report = measure(
            store, table, SEARCH, work / "data", Settings(num_users=USERS, seed=0, depth=2), lambda step, done: None
        )
    return {name: estimate.mean for name, estimate in report.quality[SPEAKS].ndcg.items()}


def _model(preset: str, epochs: int) -> ModelConfig:
    train = {
        "max_epochs": epochs,
        "patience": epochs,
        "batch_candidates": 64,
        "learning_rate": 5e-3,
        "weight_decay": 0.1,
        "embedding_l2": 1e-4,
        "attention_rate": 0.1,
        "averaging": 0.9,  # some hundred steps: the default remembers a thousand
    }
    return ModelConfig.model_validate({"network": {"preset": preset, "tower": [32], "dropout": 0.1}, "train": train})


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


if __name__ == "__main__":
    run(command_line(None, main))
