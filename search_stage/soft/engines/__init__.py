"""Engines of exact soft search: one file each, named as `soft.engine` names it, that holds a class `Engine`.

The file is the registration: the configuration takes the names of the files here. An engine is made of an index and is
a `KeySearch`. One that has a library score keys derives from `ProposingEngine` and answers `(scores, keys)`; ties, pads
and the proof that rounding hid nothing are the base's.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search_stage.index.generation import IndexGeneration
    from search_stage.soft.base import KeySearch


def make_engine(name: str, index: IndexGeneration) -> KeySearch:
    """Gives an engine for an index.

    Args:
        name: One of `config.ENGINES`.
        index: What it searches.

    Raises:
        FaissMissingError: It is not installed, or has no device.
    """
    engine: KeySearch = import_module(f"{__name__}.{name}").Engine(index)
    return engine
