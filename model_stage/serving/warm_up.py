"""Requests before the first one: what is compiled, mapped or allocated at its first use is not paid for by a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.encoding.batch import collate
from model_stage.errors import BundleError
from model_stage.inspection.synthetic_request import sample_categories, synthetic_request
from model_stage.ranking.compatibility import find_field_mismatch
from model_stage.ranking.validate import fits_schema
from store.types import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_stage.bundle import Bundle
    from model_stage.types import RankRequest
    from store.retrieval import SearchResult

SIZES = ((1, 0), (1, 1), (8, 20), (100, 100))
"""Candidates, and behaviors of each: libraries choose their kernels by size."""


def warm_up(bundle: Bundle, recorded: Sequence[tuple[RankRequest, SearchResult]] = ()) -> None:
    """Scores made-up requests of every size, each twice, then recorded ones, and drops what comes out.

    Args:
        bundle: What is to be served.
        recorded: Real requests and what was retrieved for them. One that the bundle's schema has no place for is
            passed over: its fields were those of another schema.

    Raises:
        BundleError: The bundle cannot score them: it is not fit to be served.
    """
    categories = sample_categories(bundle, max(count for count, _ in SIZES))
    for count, each in (size for size in SIZES for _ in range(2)):
        ages_ms, levels = [(each - at) * DAY_MS for at in range(each)], [at % 3 for at in range(each)]
        _score(bundle, *synthetic_request(bundle, np.resize(categories, count), ages_ms, levels), "made-up")
    for request, found in recorded:
        if fits_schema(request, bundle.schema) and find_field_mismatch(bundle.schema, found) is None:
            _score(bundle, request, found, "recorded")


def _score(bundle: Bundle, request: RankRequest, found: SearchResult, kind: str) -> None:
    try:
        with torch.inference_mode():
            logits = bundle.network(collate([bundle.encoder.encode(request, found)])).logit_BT.numpy()
        bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
    except Exception as exc:
        raise BundleError(f"bundle {bundle.name} cannot score a {kind} request ({exc}); train it anew") from exc
