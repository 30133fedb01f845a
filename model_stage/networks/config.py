"""What `network:` in train.yaml may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from model_stage.config.schema import StrictModel
from model_stage.networks.heads import Heads, TowerHeads
from model_stage.networks.preset import Preset, load_preset


def _named(value: object) -> object:
    return load_preset(value) if isinstance(value, str) else value


class NetworkConfig(StrictModel):
    """Shape and regularisation of the network."""

    preset: Annotated[Preset, BeforeValidator(_named)] = Field(default_factory=lambda: load_preset("tin"))
    """Which composition of blocks: the name of a packaged preset (`lookback-model presets`), or a preset itself."""
    heads: Heads = TowerHeads(kind="towers")
    """What stands between the blocks and each target's tower."""
    tower: tuple[int, ...] = (64, 32)
    """Hidden widths of each target's tower."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Applied to what enters the towers from embeddings, never to the dense inputs."""
    node_init: float = Field(default=0.1, gt=0.0)
    """Deviation of the categories' initial embeddings; items start at zero, that is at their category."""
