"""Where the command line joins the two stages: the searcher, in this process, over what is published."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from model_stage.training.example_folder import ExampleFolder
    from search_stage.config import SearchConfig
    from search_stage.searcher import Searcher
    from store.behavior_store import BehaviorStore


@contextmanager
def open_searcher(
    store: Path, index: Path | None, config: Path | None, model: str | None = None
) -> Iterator[tuple[BehaviorStore, Searcher]]:
    """Opens a store and an index; with a model, only an index of that model's vectors.

    Args:
        store: Root of the behavior store.
        index: Root of the index; None = no soft search.
        config: Folder with search.yaml; None = the packaged one.
        model: Attention model that the index must be of; None = any.

    Raises:
        StoreError, SearchError: One of them cannot be used; names the file.
    """
    from search_stage.config import SearchConfig
    from store.behavior_store import BehaviorStore

    loaded = SearchConfig.load(config)
    with BehaviorStore.open(store) as opened:
        yield opened, searcher_over(opened, index, loaded, model)


def searcher_over(opened: BehaviorStore, index: Path | None, config: SearchConfig, model: str | None) -> Searcher:
    """Gives a searcher over a store that is open; arguments and errors as those of `open_searcher`."""
    from search_stage.index.generation import IndexGeneration
    from search_stage.searcher import Searcher

    table = IndexGeneration.open(index) if index is not None else None
    if table is not None and model is not None:
        table.check_model(model)
    return Searcher(opened, table, config)


def example_folder(path: Path | None, searcher: Searcher, index: Path | None) -> ExampleFolder | None:
    """Gives a folder that keeps what is retrieved through a searcher.

    Args:
        path: The folder; None = nothing is kept.
        searcher: The searcher.
        index: Root of its index; None = it has none.
    """
    from model_stage.training.example_folder import ExampleFolder, content_digest, files_digest

    if path is None:
        return None
    # A set of names has no order of its own.
    config = json.dumps(searcher.config.model_dump(), sort_keys=True, default=sorted)
    table = "" if index is None else files_digest(index, "index", searcher.index_generation)
    return ExampleFolder(path=path, search=content_digest([config, table]))
