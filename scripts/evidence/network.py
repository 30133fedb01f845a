"""One run of a network: trained on the examples that all presets share, and scored on the test split."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_stage.bundle import load_bundle
from model_stage.cli.search import example_folder
from model_stage.config.schema import load_yaml
from model_stage.training.example_folder import content_digest
from model_stage.training.impressions import Splits, load_impressions
from model_stage.training.pipeline import train_bundle
from model_stage.training.retrieval import ExampleSource
from model_stage.training.scoring import logits_by_row
from scripts.evidence.code import code_digest
from scripts.evidence.results import Outcome
from search_stage import IndexGeneration, Searcher
from store import BehaviorStore

if TYPE_CHECKING:
    from scripts.evidence.configuration import Configuration
    from scripts.evidence.shared import Shared
    from scripts.pipeline import OnProgress


def key_of(shared: Shared, used: Configuration, seed: int, *modules: str) -> str:
    """Gives the digest of everything that the numbers of a run follow from.

    Args:
        shared: What the runs of the set share.
        used: The preset's configuration.
        seed: Of its training.
        modules: Further modules that had a part in it.
    """
    blocks = {type(block).__module__ for block in used.recipe.model.network.preset.blocks}
    engine = f"search_stage.soft.engines.{used.search.soft.engine}"
    return content_digest([shared.digest, used.digest, code_digest(__name__, engine, *modules, *sorted(blocks)), seed])


def run_network(shared: Shared, used: Configuration, seed: int, on_progress: OnProgress) -> Outcome:
    """Trains a preset with a seed, keeping the attention table that all share, and scores the test split."""
    clock = _Clock(on_progress)
    recipe = used.with_seed(seed)
    roots = shared.roots
    with (
        BehaviorStore.open(roots.store) as store,
        store.snapshot() as snapshot,
        tempfile.TemporaryDirectory(prefix=".bundles-", dir=shared.folder) as made,
    ):
        searcher = Searcher(store, IndexGeneration.open(roots.index), used.search)
        folder = example_folder(shared.examples(used.search_digest), searcher, roots.index)
        assert folder is not None
        train_bundle(
            recipe,
            shared.data,
            snapshot,
            searcher,
            Path(made),
            attention_from=shared.attention,
            examples=folder,
            on_progress=clock,
        )
        cost = clock.train_cost()
        bundle = load_bundle(Path(made))
        every = load_impressions(shared.data, recipe.schema, recipe.targets.names)
        impressions = load_yaml(shared.data / "splits.json", Splits).select(every, "test")
        source = ExampleSource(
            schema=recipe.schema,
            preset=recipe.model.network.preset,
            vocabularies=bundle.vocabularies,
            snapshot=snapshot,
            retriever=searcher,
            folder=folder,
        )
        examples = source.examples("test", impressions, lambda done, total: on_progress("retrieve test", done, total))
        scoring = _Clock(on_progress)
        logits = logits_by_row(bundle.network, examples)
        cost |= scoring.score_cost(len(impressions))
    names, given = recipe.targets.names, recipe.targets.given
    return Outcome(
        targets=names,
        labels=impressions.labels,
        probability=bundle.calibration.probabilities(logits, names, given),
        user=impressions.user,
        cost=cost | {"parameters": float(sum(one.numel() for one in bundle.network.parameters()))},
        more=_of_training(bundle.metrics["training"], used),
    )


def _of_training(training: dict[str, Any], used: Configuration) -> dict[str, Any]:
    best = training["best_epoch"]
    return {
        "epochs": len(training["train_loss"]),
        "best_epoch": best,
        "validation_auc": training["validation_auc"],
        "health": training["health"][best] if training["health"] else None,
        "preset": used.recipe.model.network.preset.model_dump(mode="json"),
    }


@dataclass
class _Clock:
    """Times a training from the moment at which its examples are there."""

    on_progress: OnProgress
    started_s: float = field(default_factory=time.monotonic)
    started_cpu_s: float = field(default_factory=time.process_time)

    def __call__(self, what: str, done: int, total: int) -> None:
        if what.startswith("retrieve"):
            self.started_s, self.started_cpu_s = time.monotonic(), time.process_time()
        self.on_progress(what, done, total)

    def train_cost(self) -> dict[str, float]:
        wall_s, cpu_s = self._passed()
        return {"train_s": round(wall_s, 2), "train_cpu_s": round(cpu_s, 2)}

    def score_cost(self, num_candidates: int) -> dict[str, float]:
        names = ("score_ms_per_candidate", "score_cpu_ms_per_candidate")
        return {name: 1000 * passed / num_candidates for name, passed in zip(names, self._passed(), strict=True)}

    def _passed(self) -> tuple[float, float]:
        return time.monotonic() - self.started_s, time.process_time() - self.started_cpu_s
