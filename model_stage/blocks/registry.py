"""The kinds of blocks a preset may name: each block's file registers the options of its block here."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from model_stage import blocks
from model_stage.config.schema import StrictModel

if TYPE_CHECKING:
    from model_stage.blocks.block_input import Shape
    from model_stage.blocks.interest import InterestBlock


class BlockConfig(StrictModel):
    """Options of one block of a preset."""

    kind: Any
    """Name of the block in a preset: a `Literal` of one word in every subclass."""
    reads_attention: ClassVar[bool] = False
    """Whether its answer depends on the attention tables, which soft search uses, so that training teaches them."""

    reads_history: ClassVar[bool] = False
    """Whether it can read the user's whole history: with `Shape.history`, or always."""

    @property
    def newest_read(self) -> int:
        """How many of the user's newest behaviors it reads whatever was retrieved; `WHOLE_HISTORY` = all."""
        return 0

    def build(self, shape: Shape) -> InterestBlock:
        """Gives the block, untrained.

        Raises:
            ValueError: The options do not fit the network's widths; names the option.
        """
        raise NotImplementedError


C = TypeVar("C", bound=BlockConfig)
_CONFIGS: dict[str, type[BlockConfig]] = {}


def register(config: type[C]) -> type[C]:
    """Class decorator: lets presets name this block by its `kind`."""
    (kind,) = get_args(config.model_fields["kind"].annotation)
    other = _CONFIGS.setdefault(kind, config)
    assert other is config, f"block kind {kind!r}: {config} and {other}"
    return config


def registered_blocks() -> dict[str, type[BlockConfig]]:
    """Gives the options of every block by kind; imports every file of this folder, so that none can be forgotten."""
    for module in pkgutil.iter_modules(blocks.__path__, f"{blocks.__name__}."):
        importlib.import_module(module.name)
    return dict(_CONFIGS)
