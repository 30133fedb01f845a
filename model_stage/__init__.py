"""Stage two: target-decoupled attention over the retrieved behaviors; a library first, a thin service second."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from model_stage.config.schema import Schema
from model_stage.config.targets import Targets
from model_stage.errors import (
    BundleError,
    BundleMismatchError,
    ConfigError,
    ModelError,
    ParameterGroupError,
    RankingUnavailableError,
    SearchUnavailableError,
)
from model_stage.types import ExplainResult, RankRequest, RankResult, Retriever

if TYPE_CHECKING:
    from model_stage.bundle import Bundle, load_bundle
    from model_stage.ranking.ranker import Ranker
    from model_stage.serving.rank_client import RankClient
    from model_stage.serving.search_client import SearchClient
    from model_stage.training.pipeline import Recipe, Trained, train_bundle

__all__ = [
    "Bundle",
    "BundleError",
    "BundleMismatchError",
    "ConfigError",
    "ExplainResult",
    "ModelError",
    "ParameterGroupError",
    "RankClient",
    "RankRequest",
    "RankResult",
    "Ranker",
    "RankingUnavailableError",
    "Recipe",
    "Retriever",
    "Schema",
    "SearchClient",
    "SearchUnavailableError",
    "Targets",
    "Trained",
    "load_bundle",
    "train_bundle",
]

_HOMES = {
    "Bundle": "model_stage.bundle",
    "RankClient": "model_stage.serving.rank_client",
    "Ranker": "model_stage.ranking.ranker",
    "Recipe": "model_stage.training.pipeline",
    "SearchClient": "model_stage.serving.search_client",
    "Trained": "model_stage.training.pipeline",
    "load_bundle": "model_stage.bundle",
    "train_bundle": "model_stage.training.pipeline",
}
"""What is imported when it is first asked for: it brings torch or gRPC with it."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
