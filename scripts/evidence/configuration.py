"""What a preset is trained with: the folder of its set, and what a folder of the preset's name in it replaces."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model_stage.config.schema import Schema, load_yaml
from model_stage.config.targets import Targets
from model_stage.networks.preset import load_preset, preset_names
from model_stage.training.example_folder import content_digest
from model_stage.training.pipeline import ModelConfig, Recipe
from search_stage import SearchConfig

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Recipe and search of one preset, without a seed."""

    recipe: Recipe
    search: SearchConfig

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return content_digest([as_json(part) for part in (*_parts(self.recipe), self.search)])

    @property
    def search_digest(self) -> str:
        """Of what retrieved examples depend on."""
        return content_digest([as_json(self.recipe.schema), as_json(self.search)])

    def with_seed(self, seed: int) -> Recipe:
        """Gives the recipe with the seed of its training."""
        model = self.recipe.model
        train = model.train.model_copy(update={"seed": seed})
        return replace(self.recipe, model=model.model_copy(update={"train": train}))


def known_preset(folder: Path, name: str) -> bool:
    """Says whether there is such a preset: a packaged one, or one that the configuration holds itself."""
    return name in preset_names() or (folder / name / "train.yaml").is_file()


def configuration(folder: Path, preset: str | None = None) -> Configuration:
    """Reads the configuration of a preset.

    Args:
        folder: With schema, targets, train and search.yaml. Files of those names in its folder `preset` take their
            places; a preset that is not packaged is the one that `train.yaml` there holds.
        preset: Its name; None = what the folder says.

    Raises:
        ConfigError: A file is absent or wrong.
    """

    def of(name: str) -> Path:
        own = folder / (preset or ".")
        return own if (own / name).is_file() else folder

    model = load_yaml(of("train.yaml") / "train.yaml", ModelConfig)
    if preset in preset_names():
        network = model.network.model_copy(update={"preset": load_preset(preset)})
        model = model.model_copy(update={"network": network})
    recipe = Recipe(
        schema=load_yaml(of("schema.yaml") / "schema.yaml", Schema),
        targets=load_yaml(of("targets.yaml") / "targets.yaml", Targets),
        model=model,
    )
    return Configuration(recipe=recipe, search=SearchConfig.load(of("search.yaml")))


def _parts(recipe: Recipe) -> tuple[Schema, Targets, ModelConfig]:
    return recipe.schema, recipe.targets, recipe.model


def as_json(part: Schema | Targets | ModelConfig | SearchConfig) -> str:
    """Gives a part as text: equal parts, equal text."""
    # A set of names has no order of its own.
    return json.dumps(part.model_dump(), sort_keys=True, default=_plain)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset | set) else str(value)
