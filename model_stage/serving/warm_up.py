"""Requests before the first one: what is compiled, mapped or allocated at its first use is not paid for by a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.encoding.batch import collate
from model_stage.errors import BundleError
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from store.types import DAY_MS

if TYPE_CHECKING:
    from model_stage.bundle import Bundle

SIZES = ((1, 0), (1, 1), (8, 20), (100, 100))
"""Candidates, and behaviors of each: libraries choose their kernels by size."""


def warm_up(bundle: Bundle) -> None:
    """Scores made-up requests of every size, each twice, and drops what comes out.

    Raises:
        BundleError: The bundle cannot score them: it is not fit to be served.
    """
    encoder, categories = bundle.encoder, sample_categories(bundle, max(count for count, _ in SIZES))
    for count, each in (size for size in SIZES for _ in range(2)):
        ages_ms, levels = [(each - at) * DAY_MS for at in range(each)], [at % 3 for at in range(each)]
        made_up = synthetic_request(bundle, np.resize(categories, count), ages_ms, levels)
        try:
            with torch.inference_mode():
                logits = bundle.network(collate([encoder.encode(*made_up)])).logit_BT.numpy()
            bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
        except Exception as exc:
            raise BundleError(f"bundle {bundle.name} cannot score a made-up request ({exc}); train it anew") from exc
