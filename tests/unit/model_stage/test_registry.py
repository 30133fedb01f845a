"""The kinds of blocks that presets may name: none is forgotten, and no kind is taken twice."""

from __future__ import annotations

from typing import Literal, get_args

import pytest

from model_stage.blocks.registry import BlockConfig, register, registered_blocks
from model_stage.networks.preset import load_preset, preset_names


def kind_of(config):
    return config.model_fields["kind"].annotation


def test_all_options_that_stand_in_a_file_of_blocks_are_registered():
    registered = registered_blocks()
    classes = [
        *BlockConfig.__subclasses__(),
        *(two for one in BlockConfig.__subclasses__() for two in one.__subclasses__()),
    ]
    written = [
        one for one in classes if one.__module__.startswith("model_stage.blocks.") and get_args(kind_of(one)) != ()
    ]
    assert {one.__name__ for one in written} == {one.__name__ for one in registered.values()}
    assert all(one.__doc__ and "kind" in one.model_fields for one in written)


def test_every_kind_is_in_a_packaged_preset():
    used = {block.kind for name in preset_names() for block in load_preset(name).blocks}
    assert used == set(registered_blocks())


def test_a_kind_belongs_to_one_block():
    class Second(BlockConfig):
        kind: Literal["tin"]

    with pytest.raises(AssertionError, match="block kind 'tin'"):
        register(Second)
    assert registered_blocks()["tin"].__name__ == "TINConfig"
