"""Whether a candidate may take the place of the bundle that is served."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from model_stage.bundle import load_bundle
from model_stage.cli.replay import replay_log
from model_stage.evaluation.verdict import compare
from model_stage.training.scoring import score_split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_stage.evaluation.verdict import Gain
    from model_stage.training.example_folder import ExampleFolder
    from model_stage.training.scoring import Scored
    from model_stage.types import Retriever
    from scripts.daily.config import DailyConfig
    from store.reading.snapshot import Snapshot

SPLIT = "test"


def ask_gate(
    job: DailyConfig, candidates: Path, snapshot: Snapshot, retriever: Retriever, examples: ExampleFolder
) -> dict[str, Any]:
    """Compares the candidate with the served bundle, and gives what follows: `passed`, and `reasons` where it did not.

    It passes if no interval of its gains (AUC, GAUC and log loss of every target, users drawn in pairs) reaches below
    minus the tolerance, every target is calibrated, and the served log, if there is one, comes out again to the bit.
    """

    def scored(root: Path) -> Scored:
        return score_split(load_bundle(root), job.dataset, SPLIT, snapshot, retriever, examples=examples)

    ours, theirs = scored(candidates), scored(job.bundles)
    impressions = ours.impressions
    common = [target for target in ours.targets if target in theirs.targets]
    labels = impressions.of_targets(common).labels
    verdict = compare(
        labels,
        _columns(ours, common),
        _columns(theirs, common),
        impressions.user,
        common,
        tolerance=job.tolerance,
    )
    reasons = [*_losses(verdict.gains, job.tolerance), *_miscalibrated(ours, job.max_calibration_error)]
    replayed = None
    if job.served_log is not None:
        report = replay_log(job.served_log, job.bundles, job.store, job.index, job.config)
        replayed = {"asked": report.num_replayed, "different": len(report.differences)}
        if report.differences:
            reasons.append(f"{len(report.differences)} of {report.num_replayed} answers of {job.served_log} differ now")
    return {
        "passed": not reasons,
        "reasons": reasons,
        "served": theirs.bundle,
        "gains": [asdict(gain) for gain in verdict.gains],
        "metrics": ours.metrics,
        "replay": replayed,
    }


def _columns(scored: Scored, targets: Sequence[str]) -> Any:  # noqa: ANN401 (float32 (N, targets))
    return scored.probability[:, [scored.targets.index(target) for target in targets]]


def _losses(gains: Sequence[Gain], tolerance: float) -> list[str]:
    if not gains:
        return ["no target of the split has rows of both classes, so that nothing can be compared"]
    return [
        f"{gain.metric} of {gain.target} may be worse by {-gain.low:.4f} ({gain.theirs:.4f} -> {gain.ours:.4f}), more "
        f"than {tolerance:g}"
        for gain in gains
        if gain.low < -tolerance
    ]


def _miscalibrated(scored: Scored, most: float) -> list[str]:
    return [
        f"{target} has a calibration error of {numbers['ece']:.4f}, more than {most:g}"
        for target, numbers in scored.metrics.items()
        if numbers["ece"] > most
    ]
