"""Times networks by themselves, beside the floor of their attentions, and beside those of another commit.

Each round of each checkout is a process of its own; those of two checkouts alternate, so that a noisy quarter of an
hour hits both alike. The scripts are those of this checkout: `python -m scripts.bench.rank.network PRESET ...` prints
one round as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from model_stage.networks.preset import load_preset
from scripts.bench.cost.world import ITEMS, make_batch, make_network
from scripts.bench.rank.floor import draw_attention
from scripts.bench.rank.model import DIM, THREE, WIDE, num_attentions
from scripts.bench.timing import elapsed_ms
from scripts.servers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model_stage.encoding.batch import Batch
    from model_stage.networks import RankingNetwork

NUM_CANDIDATES, OWN, UNION = 100, 100, 1_500
"""A candidate has 100 behaviors of its own out of 1,500."""
_PARTS = ("protos", "store", "serving", "search_stage", "model_stage")
_ENOUGH_S = 4.0
"""Slow networks alternate fewer times with their floor, but at least twice."""
_IN_A_ROW = 4
"""Calls of one kind, the first of which finds the caches as the others left them and is not counted."""


class Row(TypedDict):
    """One preset; medians in milliseconds."""

    preset: str
    network_ms: float
    """Forward, as it is served."""
    backward_ms: float
    """Forward and backward, in training mode, gradients of the large tables sparse."""
    attentions: int
    """See `num_attentions`."""
    plain_attention_ms: float
    """`floor.PlainAttention`, alternating with the two."""


def time_networks(
    presets: Sequence[str], rounds: int, alternations: int, baseline: Path | None = None
) -> tuple[list[Row], list[Row]]:
    """Times every preset in this checkout, and in another one if it is given: rows of both, medians over the rounds.

    Args:
        presets: Names; the other checkout must have them.
        rounds: Processes of each checkout.
        alternations: Of the measures in a process.
        baseline: Root of another checkout, or None.
    """
    with tempfile.TemporaryDirectory() as folder:
        trees = [CHECKOUT] if baseline is None else [CHECKOUT, _overlay(Path(folder), baseline)]
        found = [[_round(tree, presets, alternations) for tree in trees] for _ in range(rounds)]
    here, *other = ([_median(rows) for rows in zip(*of_tree, strict=True)] for of_tree in zip(*found, strict=True))
    return here, other[0] if other else []


def time_here(presets: Sequence[str], alternations: int) -> list[Row]:
    """Times every preset in this process, with one thread."""
    torch.set_num_threads(1)
    batch = make_batch(UNION, NUM_CANDIDATES, own=OWN)
    plain = draw_attention(NUM_CANDIDATES, UNION, OWN, DIM, [each.buckets for each in THREE.targets[0].positions])
    return [_time(name, batch, plain, alternations) for name in presets]


def _time(preset: str, batch: Batch, plain: Callable[[], object], alternations: int) -> Row:
    network = make_network(preset, ITEMS, WIDE, THREE)
    for table in network.modules():
        if isinstance(table, torch.nn.Embedding | torch.nn.EmbeddingBag):
            table.sparse = True
    step, served = _step(network, batch), make_network(preset, ITEMS, WIDE, THREE).eval()
    if hasattr(served, "prepare_for_serving"):  # another checkout may have none
        served.prepare_for_serving(served.node_vectors(torch.float32))

    def forward() -> None:
        with torch.inference_mode():
            served(batch)

    def floor() -> None:
        with torch.inference_mode():
            plain()

    took: dict[str, list[float]] = {"forward": [], "backward": [], "floor": []}
    for _ in range(alternations):
        took["forward"] += _in_a_row(forward)
        took["floor"] += _in_a_row(floor)
        took["backward"] += _in_a_row(step)
    return Row(
        preset=preset,
        network_ms=float(np.median(took["forward"])),
        backward_ms=float(np.median(took["backward"])),
        attentions=num_attentions(load_preset(preset)),
        plain_attention_ms=float(np.median(took["floor"])),
    )


def _in_a_row(call: Callable[[], object]) -> list[float]:
    return [elapsed_ms(call) for _ in range(_IN_A_ROW)][1:]


def _step(network: RankingNetwork, batch: Batch) -> Callable[[], None]:
    labels = (torch.arange(NUM_CANDIDATES)[:, None] % 2 == 0).float().expand(-1, len(THREE.targets))

    def step() -> None:
        network.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(network(batch).logit_BT, labels).backward()

    return step


def _overlay(folder: Path, checkout: Path) -> Path:
    """Gives a folder with the packages of another checkout, and the scripts of this one."""
    for name in _PARTS:
        (folder / name).symlink_to((checkout / name).resolve(strict=True))
    (folder / "scripts").symlink_to(CHECKOUT / "scripts")
    return folder


def _round(tree: Path, presets: Sequence[str], alternations: int) -> list[Row]:
    command = [sys.executable, "-m", "scripts.bench.rank.network", str(alternations), *presets]
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, cwd=tree, env=env, check=True, stdout=subprocess.PIPE, text=True)
    answer = json.loads(found.stdout)
    assert Path(answer["model_stage"]).resolve() == (tree / "model_stage").resolve(), answer["model_stage"]
    rows: list[Row] = answer["rows"]
    return rows


def _median(rows: Sequence[Row]) -> Row:
    """Gives the medians of one preset's rounds."""
    forward, backward, floor = (
        float(np.median([row[name] for row in rows])) for name in ("network_ms", "backward_ms", "plain_attention_ms")
    )
    return {**rows[0], "network_ms": forward, "backward_ms": backward, "plain_attention_ms": floor}


def main() -> None:
    """Prints one round, and whose networks it timed."""
    import model_stage

    alternations, *presets = sys.argv[1:]
    rows = time_here(presets, int(alternations))
    print(json.dumps({"rows": rows, "model_stage": str(Path(model_stage.__file__).parent)}))


if __name__ == "__main__":
    main()
