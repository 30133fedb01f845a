"""Every preset trains, publishes, serves and ranks through gRPC. Generated data; nothing is said of quality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from model_stage.bundle import load_bundle
from model_stage.networks import NetworkConfig
from model_stage.networks.preset import load_preset, preset_names
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.pipeline import Recipe, train_bundle
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS
from search_stage.config import SearchConfig
from search_stage.index.build import build_index
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions
from serving.deadline import Deadline
from store import BehaviorStore
from store.building.ingest import ingest

OPTIONS = ServeOptions(metrics_port=0)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One store, one index and one search server for all presets."""

    data: Path
    store: Path
    index: Path
    attention: Path
    recipe: Recipe
    search: SearchConfig
    port: int


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The attention table is learned once, with `tin`, and every preset takes it over, as in a comparison."""
    folder = tmp_path_factory.mktemp("presets")
    generate(Settings(seed=1, users=20, mean_behaviors=40, requests=60, candidates=(6, 9)), folder / "data")
    ingest(folder / "data", folder / "store")
    recipe, search = Recipe.load(CONFIGS / "generated"), SearchConfig.load(CONFIGS / "generated")
    recipe = replace(recipe, model=recipe.model.model_copy(update={"train": _one_epoch(recipe)}))
    with BehaviorStore.open(folder / "store") as store, store.snapshot() as snapshot:
        train_bundle(recipe, folder / "data", snapshot, Searcher(store, None, search), folder / "attention")
        build_index(folder / "attention", store, folder / "index")
    with search_server(folder / "store", folder / "index", search, OPTIONS) as server:
        yield Job(
            data=folder / "data",
            store=folder / "store",
            index=folder / "index",
            attention=folder / "attention",
            recipe=recipe,
            search=search,
            port=server.port,
        )


def _one_epoch(recipe):
    return recipe.model.train.model_copy(update={"max_epochs": 1, "batch_candidates": 128})


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_trains_publishes_serves_and_ranks(job, preset, tmp_path):
    config = NetworkConfig(preset=load_preset(preset), tower=(16,))
    recipe = replace(job.recipe, model=job.recipe.model.model_copy(update={"network": config}))
    with BehaviorStore.open(job.store) as store, store.snapshot() as snapshot:
        searcher = Searcher(store, IndexGeneration.open(job.index), job.search)
        trained = train_bundle(recipe, job.data, snapshot, searcher, tmp_path, attention_from=job.attention)
    (loss,) = trained.metrics["training"]["train_loss"]
    assert np.isfinite(loss)
    bundle = load_bundle(tmp_path)
    impressions = load_impressions(job.data, bundle.schema, bundle.targets.names)
    requests = [request for _, request in requests_of(impressions, bundle.schema)][-5:]
    address = f"127.0.0.1:{job.port}"
    with (
        ranking_server(tmp_path, address, OPTIONS) as server,
        RankClient(f"127.0.0.1:{server.port}") as client,
        RemoteRetriever(address) as search,
    ):
        library = Ranker(bundle, search)
        for request in requests:
            answer = client.rank(request, Deadline.after(20.0))
            assert not answer.degraded, answer.degraded_reason
            assert answer.versions.bundle == trained.name
            assert answer.probability.shape == (len(request.candidates), 2)
            assert ((answer.probability > 0.0) & (answer.probability < 1.0)).all()
            np.testing.assert_array_equal(answer.probability, library.rank(request).probability)
        explained = client.explain(requests[-1], 0, Deadline.after(20.0))
    assert len(explained.behaviors) == answer.num_retrieved[0] > 0
    assert all(np.isfinite(behavior.attention).all() for behavior in explained.behaviors)
