"""docs/training.md names every key that targets.yaml and train.yaml may have, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from model_stage.config.targets import (
    CalendarPosition,
    IntervalPosition,
    MatchLevelPosition,
    RankPosition,
    Target,
    Targets,
)
from model_stage.config.train import TrainConfig
from model_stage.networks.config import NetworkConfig
from model_stage.training.pipeline import ModelConfig

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
ROWS = {cells[1].strip(): cells[2].strip() for line in TEXT.splitlines() if len(cells := line.split("|")) > 3}
POSITIONS = (RankPosition, IntervalPosition, CalendarPosition, MatchLevelPosition)


@pytest.mark.parametrize("model", [Target, ModelConfig, NetworkConfig, TrainConfig], ids=lambda model: model.__name__)
def test_every_key_has_a_row(model):
    assert [name for name in model.model_fields if f"`{name}`" not in ROWS] == []


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_the_defaults_are_those_of_the_code(name):
    default = TrainConfig.model_fields[name].default
    assert ROWS[f"`{name}`"] in (f"{default:g}" if isinstance(default, float) else str(default), f"`{default}`")


@pytest.mark.parametrize("model", POSITIONS, ids=lambda model: model.__name__)
def test_every_position_names_its_keys_and_defaults(model):
    kind = model.model_fields["kind"].annotation.__args__[0]
    for name, field in model.model_fields.items():
        if name != "kind":
            value = f"{field.default:g}" if isinstance(field.default, float) else field.default
            assert re.search(rf"`{name}` `?{value}\b", ROWS[f"`{kind}`"])


def test_the_examples_are_accepted():
    targets, train = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.S))
    assert Targets.model_validate(targets).names == ("click", "buy")
    ModelConfig.model_validate(train)
