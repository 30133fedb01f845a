"""Presets: networks as data. A preset names the blocks of a network, their options and what they see.

The packaged ones are `model_stage/presets/*.yaml`. A configuration may name one of them, or hold one; what is loaded is
always the whole of it, so that a bundle does not change when a packaged file does.
"""

from __future__ import annotations

from functools import reduce
from importlib.resources import files
from operator import or_
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import yaml
from pydantic import Field, model_validator

from model_stage.blocks.registry import BlockConfig, registered_blocks
from model_stage.config.schema import StrictModel, parse_config
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT, WHOLE_HISTORY

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from torch import Tensor

Source = Literal["hard", "soft", "recent"]
_BITS = {"hard": SOURCE_HARD, "soft": SOURCE_SOFT, "recent": SOURCE_RECENT}

if TYPE_CHECKING:
    Block = BlockConfig
else:
    Block = Annotated[reduce(or_, registered_blocks().values()), Field(discriminator="kind")]


class Selection(StrictModel):
    """Which of the retrieved pairs the blocks see. Positions stay those of the whole retrieved list."""

    sources: tuple[Source, ...] = Field(default=("hard", "soft", "recent"), min_length=1)
    """Pairs that one of these found; a pair may have been found by several."""
    newest: int | None = Field(default=None, ge=1)
    """Of those, the newest per candidate; None = all."""

    def kept(self, source_M: Tensor, candidate_M: Tensor) -> Tensor | None:
        """Gives the rows of the selected pairs, ascending, int64; None = all pairs.

        Args:
            source_M: Source bits of each pair. int64.
            candidate_M: Candidate of each pair, ascending; oldest pair first within one. int64.
        """
        if self == Selection():
            return None
        wanted = sum({_BITS[name] for name in self.sources})
        (found_K,) = torch.where((source_M & wanted) != 0)
        if self.newest is None:
            return found_K
        mine_K = candidate_M.index_select(0, found_K).contiguous()
        end_K = torch.searchsorted(mine_K, mine_K, right=True)
        after_K = end_K - torch.arange(len(mine_K), device=mine_K.device)
        return found_K[after_K <= self.newest]


class AuxiliaryLoss(StrictModel):
    """A second loss in training, which teaches the attention table about behaviors that were not retrieved.

    The network's own loss passes gradient to what search chose alone. This one attends over the whole history
    (`model_stage/training/auxiliary.py`); what it needs is not part of the bundle.

    Source: DARE, arXiv 2410.02604.
    """

    weight: float = Field(default=1.0, gt=0.0)
    newest: int | None = Field(default=None, ge=1)
    """Of each history, the newest behaviors only; None = the whole of it as of the request."""


class Preset(StrictModel):
    """A network: what its blocks see, and the blocks, whose answers are concatenated."""

    name: str = Field(min_length=1)
    summary: str = Field(min_length=1)
    """One line, for lists of presets."""
    selection: Selection | Literal["history"] = Selection()
    """Which pairs the blocks see; or `history`: they read the user's whole history as of the request, whatever was
    retrieved."""
    positions: Literal["target", "shared"] = "target"
    """`target`: positional tables per target or group. `shared`: one set, with all encodings, for all targets."""
    blocks: tuple[Block, ...]
    """None = the candidate, the request and the match statistics alone."""
    auxiliary: AuxiliaryLoss | None = None
    """Left out of training where the attention table is another bundle's and fixed: there is nothing to teach."""

    @model_validator(mode="after")
    def _check_history(self) -> Preset:
        unable = sorted({block.kind for block in self.blocks if not block.reads_history})
        if self.selection == "history" and unable:
            able = sorted(kind for kind, config in registered_blocks().items() if config.reads_history)
            raise ValueError(f"selection: history: {', '.join(unable)} cannot read it; {', '.join(able)} can")
        if self.reads_history and self.auxiliary is not None and self.auxiliary.newest is not None:
            raise ValueError("auxiliary.newest: a block reads the whole history, and so does the loss; leave it out")
        return self

    def kept(self, source_M: Tensor, candidate_M: Tensor) -> Tensor | None:
        """Gives the rows of the pairs that the blocks see: see `Selection.kept`."""
        return None if self.selection == "history" else self.selection.kept(source_M, candidate_M)

    @property
    def newest_read(self) -> int:
        """How many of the user's newest behaviors the blocks read besides what was retrieved; `WHOLE_HISTORY` = all."""
        whole = WHOLE_HISTORY if self.selection == "history" else 0
        return max([whole, *(block.newest_read for block in self.blocks)])

    @property
    def reads_history(self) -> bool:
        """Whether a block reads the user's whole history."""
        return self.newest_read == WHOLE_HISTORY

    @property
    def reads_attention(self) -> bool:
        """Whether training teaches the attention table, which soft search uses."""
        return self.auxiliary is not None or any(block.reads_attention for block in self.blocks)


def preset_names() -> list[str]:
    """Gives the names of the packaged presets, ascending."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Gives a packaged preset.

    Raises:
        ValueError: There is none of this name; the message has the names there are.
    """
    names = preset_names()
    if name not in names:
        raise ValueError(f"{name!r} is no preset; there are {', '.join(names)}")
    file = _folder().joinpath(f"{name}.yaml")
    return parse_config(str(file), yaml.safe_load(file.read_text(encoding="utf-8")), Preset)


def _folder() -> Traversable:
    return files("model_stage").joinpath("presets")
