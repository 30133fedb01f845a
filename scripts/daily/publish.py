"""Publishes a candidate where it is served, and sees that it answers there; goes back where it does not."""

from __future__ import annotations

import shutil
import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from model_stage.bundle import KIND, load_bundle
from model_stage.errors import BundleMismatchError, ModelError
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.training.impressions import load_impressions, requests_of
from store.errors import LookbackError
from store.publishing.generation import GenerationWriter, open_generation
from store.publishing.kept import LOCK_FILE, remove_generations, roll_back
from store.publishing.lock import FileLock
from store.publishing.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model_stage.types import RankRequest, RankResult, Retriever
    from scripts.daily.config import DailyConfig

_TRIED = 8
"""Requests that a published bundle has to answer."""
_PAUSE_S = 0.5


def copy_bundle(candidates: Path, name: str, bundles: Path) -> str:
    """Publishes a bundle under another root, file by file the same; gives its name there."""
    opened = open_generation(candidates, KIND, name)
    with GenerationWriter(bundles, kind=KIND) as writer:
        shutil.copytree(opened.path, writer.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE))
        writer.meta.update(opened.manifest.meta)
        return writer.publish()


def verify(job: DailyConfig, candidates: Path, candidate: str, published: str, retriever: Retriever) -> int:
    """Sees that the published bundle answers as the candidate did; gives the number of requests that were tried.

    Raises:
        BundleMismatchError: It answers otherwise, or the ranking service did not take it up in time.
        LookbackError: It cannot be opened, or does not fit what is served.
    """
    bundle = load_bundle(job.bundles, published)
    impressions = load_impressions(job.dataset, bundle.schema, bundle.targets.names)
    requests = [request for _, request in islice(requests_of(impressions, bundle.schema), _TRIED)]
    expected = _answers(Ranker(load_bundle(candidates, candidate), retriever), requests)
    found = _answers(Ranker(bundle, retriever), requests)
    for request, ours, theirs in zip(requests, found, expected, strict=True):
        if not np.array_equal(ours.probability, theirs.probability):
            raise BundleMismatchError(f"{job.bundles}: {published} answers user {request.user} otherwise than before")
    if job.ranking is not None:
        _wait_for(job.ranking, job, published, requests[0])
    return len(requests)


def _answers(ranker: Ranker, requests: Sequence[RankRequest]) -> list[RankResult]:
    return [ranker.rank(request) for request in requests]


def _wait_for(address: str, job: DailyConfig, published: str, request: RankRequest) -> None:
    """Waits until a service answers with a bundle."""
    give_up_s, last = time.monotonic() + job.wait_s, "no answer"
    with RankClient(address, job.security) as client:
        while time.monotonic() < give_up_s:
            try:
                last = client.rank(request).versions.bundle
            except ModelError as error:
                last = str(error)
            if last == published:
                return
            time.sleep(_PAUSE_S)
    raise BundleMismatchError(f"{address}: does not answer with {published} after {job.wait_s:g} s, but: {last}")


def go_back(job: DailyConfig, before: str) -> None:
    """Makes the bundle that was served before the current one again."""
    with FileLock(job.bundles / LOCK_FILE, "go back to the bundle of before"):
        roll_back(job.bundles, KIND, load_bundle, before)


def remove_old(job: DailyConfig) -> list[str]:
    """Removes bundles that nobody goes back to; gives their names."""
    try:
        with FileLock(job.bundles / LOCK_FILE, "remove old bundles"):
            return remove_generations(job.bundles, job.keep, kind=KIND)
    except LookbackError:
        return []  # the next run will
