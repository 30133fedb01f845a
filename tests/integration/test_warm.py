"""The first request of a server finds every kernel of the network compiled, loaded and of the right types."""

from __future__ import annotations

import subprocess
import sys

from tests.worlds.services import CHECKOUT

FIRST_REQUEST = """
import sys
from pathlib import Path

from model_stage.blocks import pair_kernels
from model_stage.serving.service import CurrentRanker
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store import BehaviorStore
from tests.worlds.services import AS_OF_MS, candidates
from model_stage.types import RankRequest
from store.types import parse_id


def loaded():
    found = (value for value in vars(pair_kernels).values() if hasattr(value, "signatures"))
    return {kernel.__name__: list(kernel.signatures) for kernel in found}


folder = Path(sys.argv[1])
with BehaviorStore.open(folder / "store") as store:
    searcher = Searcher(store, IndexGeneration.open(folder / "index"))
    assert not any(loaded().values())
    ranker = CurrentRanker(folder / "bundle", searcher).ranker
    warm = loaded()
    assert warm["attend_kernel"], warm
    ranked = ranker.rank(RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2", "c1")))
assert ranked.num_retrieved.min() > 0 and not ranked.degraded
assert loaded() == warm
"""


def test_the_first_request_compiles_and_loads_no_kernel(world):
    done = subprocess.run([sys.executable, "-c", FIRST_REQUEST, str(world.folder)], cwd=CHECKOUT, check=False)
    assert done.returncode == 0
