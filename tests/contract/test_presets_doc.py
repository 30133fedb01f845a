"""docs/presets.md: its table names every preset and says what the files say, and its examples are accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from model_stage.config.targets import Targets
from model_stage.networks.preset import load_preset, preset_names
from model_stage.training.pipeline import ModelConfig

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| (yes|no) \|$", TEXT, flags=re.MULTILINE)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_table_says_what_the_files_say():
    assert sorted(name for name, *_ in ROWS) == preset_names()
    for name, sees, positions, teaches in ROWS:
        preset = load_preset(name)
        assert preset.reads_attention == (teaches == "yes"), name
        assert (preset.positions == "shared") == positions.startswith("no:"), name
        if preset.selection == "history":
            assert sees == "the user's whole history"
            continue
        if preset.selection.newest is not None:
            assert sees == f"the newest {preset.selection.newest}"
        if len(preset.selection.sources) == 1:
            assert sees == f"found by {preset.selection.sources[0]} search"
        for block in preset.blocks:
            assert str(getattr(block, "top_k", "")) in sees, name


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_accepted(example):
    raw = yaml.safe_load(example)
    model = Targets if "targets" in raw else ModelConfig
    assert model.model_validate(raw) is not None
