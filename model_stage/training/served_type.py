"""The type of the vectors a bundle is served with: bfloat16 if the validation split does not notice, else float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_stage.reference import KEY, reference_window
from model_stage.training.scoring import calibrated_report, logits_by_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_stage.calibration import Calibration
    from model_stage.config.targets import Targets
    from model_stage.networks import RankingNetwork
    from model_stage.training.examples import Examples
    from store.dataset.impressions import Impressions
    from store.types import F32

LARGEST_DRIFT = 1e-4
"""Of AUC and of calibration error, of any target."""
_COMPARED = ("auc", "ece")


def fit_served_type(
    network: RankingNetwork,
    examples: Examples,
    impressions: Impressions,
    logits: F32,
    calibration: Calibration,
    targets: Targets,
) -> tuple[torch.dtype, dict[str, Any]]:
    """Scores some examples with vectors of half the size, and says whether that may be served.

    Args:
        network: After its training, which this ends: it is left prepared for serving with those vectors.
        examples: The validation split.
        impressions: Their impressions.
        logits: What the network says of them with vectors of full size.
        calibration: Fitted to `logits`.
        targets: The targets.

    Returns:
        The type, and what `metrics.json` says: the validation report of the network as it will be served, by how much
        each number moved, and the reference window.
    """
    network.prepare_for_serving(network.node_vectors(torch.bfloat16))
    before = calibrated_report(impressions, logits, calibration, targets)
    after = calibrated_report(impressions, logits_by_row(network, examples), calibration, targets)
    drift = {name: _drift(before[name], after[name]) for name in targets.names}
    passed = max(value for moved in drift.values() for value in moved.values()) <= LARGEST_DRIFT
    dtype, report = (torch.bfloat16, after) if passed else (torch.float32, before)
    said = calibration.probabilities(logits, targets.names, targets.given)
    window = reference_window(impressions.labels, said, targets.names, impressions.timestamp_ms)
    return dtype, {"validation": report, "bfloat16_drift": drift, KEY: window}


def _drift(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    # A target without both classes has no AUC, with either type.
    return {name: float(np.nan_to_num(abs(after[name] - before[name]))) for name in _COMPARED}
