"""The offline job's first pass teaches the attention table, whatever the preset of the second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_stage.networks.preset import load_preset, preset_names
from model_stage.training.pipeline import Recipe
from scripts.pipeline import CONFIGS, teaching_attention


@pytest.mark.parametrize("name", preset_names())
def test_the_first_pass_teaches_the_attention_table(name):
    recipe = Recipe.load(CONFIGS / "generated")
    preset = load_preset(name)
    network = recipe.model.network.model_copy(update={"preset": preset})
    recipe = replace(recipe, model=recipe.model.model_copy(update={"network": network}))
    first = teaching_attention(recipe).model.network
    assert first.preset == (preset if preset.reads_attention else load_preset("tin"))
    assert first.model_copy(update={"preset": preset}) == network
