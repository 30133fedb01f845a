"""Schema, targets and presets of the benchmark of ranking: two tables of 64 dimensions, three targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_stage.config.targets import IntervalPosition, MatchLevelPosition, Target, Targets
from scripts.bench.cost.world import SCHEMA

if TYPE_CHECKING:
    from model_stage.networks.preset import Preset

DIM = 64
WIDE = SCHEMA.model_copy(update={"attention_dim": DIM, "representation_dim": DIM})
THREE = Targets(
    targets=tuple(
        Target(
            name=name,
            positions=(
                IntervalPosition(kind="interval", buckets=24, span_days=600),
                MatchLevelPosition(kind="match_level", levels=4),
            ),
        )
        for name in ("click", "cart", "purchase")
    )
)
"""Each with positions of its own, as `scripts/configs/generated/targets.yaml` has them."""
PRESETS = ("tencent", "tin", "sim_soft", "longer", "popularity")
MORE_NETWORKS = ("tencent_no_sasrec", "sasrec")
"""Measured as networks only: the parts of `tencent`."""


def num_attentions(preset: Preset) -> int:
    """Gives how many softmaxes over a candidate's pairs a preset takes: of every target, layer, subset and head.

    Blocks that read sequences count none.
    """
    of_target = {
        "tin": lambda block: 1,
        "stacked_tin": lambda block: block.layers,
        "side_info_tin": lambda block: len(block.subsets),
        "sim": lambda block: block.heads,
        "sasrec": lambda block: 0,
        "longer": lambda block: 0,
    }
    return len(THREE.targets) * sum(of_target[block.kind](block) for block in preset.blocks)
