"""A bundle and an index of another model: refused where it is known at the start, a degraded answer where it is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from model_stage.bundle import load_bundle
from model_stage.errors import BundleMismatchError, RankingUnavailableError
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions
from store import BehaviorStore
from store.building.ingest import ingest
from store.errors import FieldError, InputError
from store.publishing.generation import current_name
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, candidates, metric, publish_bundle, publish_index

REQUEST = RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2"))


def test_an_index_of_another_model_degrades_the_answer_until_one_of_the_bundles_is_published(own_world):
    first = current_name(own_world.bundle, "model")
    second = publish_bundle(own_world, seed=1)
    options = ServeOptions()
    with (
        search_server(own_world.store, own_world.index, SearchConfig.load(), options) as search,
        ranking_server(own_world.bundle, f"127.0.0.1:{search.port}", options) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
        RemoteRetriever(f"127.0.0.1:{search.port}") as searching,
    ):
        assert searching.search(REQUEST.query()).index_model == first
        with pytest.raises(
            BundleMismatchError, match=f"vectors of model {first}, bundle {second} has those of {second}"
        ):
            Ranker.load(own_world.bundle, searching)
        result = client.rank(REQUEST)
        assert result.degraded
        assert first in result.degraded_reason
        assert second in result.degraded_reason
        assert (result.num_retrieved.tolist(), result.versions.store_generation) == ([0, 0], "")
        with pytest.raises(RankingUnavailableError, match=f"FAILED_PRECONDITION: .*{first}"):
            client.explain(REQUEST)
    publish_index(own_world)
    with (
        search_server(own_world.store, own_world.index, SearchConfig.load(), options) as search,
        ranking_server(own_world.bundle, f"127.0.0.1:{search.port}", options) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
    ):
        result = client.rank(REQUEST)
        assert not result.degraded
        assert result.versions.index_model == second
    with RemoteRetriever(f"127.0.0.1:{search.port}") as gone:
        assert Ranker.load(own_world.bundle, gone).rank(REQUEST).degraded


def test_a_ranker_in_one_process_is_refused_with_an_index_of_another_model(own_world):
    publish_bundle(own_world, seed=1)
    with BehaviorStore.open(own_world.store) as store:
        with pytest.raises(BundleMismatchError, match="publish an index built with its export"):
            Ranker.load(own_world.bundle, Searcher(store, IndexGeneration.open(own_world.index)))
        without = Ranker.load(own_world.bundle, Searcher(store, None)).rank(REQUEST)
        assert (without.degraded, without.versions.index_model) == (False, "")


def test_a_store_without_the_side_info_of_the_bundle_is_refused_and_degrades_the_answer(own_world):
    data = own_world.folder / "data"
    lines = (data / "behaviors.csv").read_text().splitlines()
    (data / "behaviors.csv").write_text("".join(line.rsplit(",", 2)[0] + "\n" for line in lines))
    ingest(data, own_world.store, replace=True)
    message = "behavior_fields.0.: 'stars' is no side-info field of behaviors; store .* has none; ingest the table"
    with BehaviorStore.open(own_world.store) as store, pytest.raises(BundleMismatchError, match=message):
        Ranker.load(own_world.bundle, Searcher(store))
    options = ServeOptions()
    with (
        search_server(own_world.store, None, SearchConfig.load(), options) as search,
        ranking_server(own_world.bundle, f"127.0.0.1:{search.port}", options) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
        RemoteRetriever(f"127.0.0.1:{search.port}") as searching,
    ):
        with pytest.raises(BundleMismatchError, match=message):
            Ranker.load(own_world.bundle, searching)
        result = client.rank(REQUEST)
        assert result.degraded
        assert "'stars' is no side-info field" in result.degraded_reason
        with pytest.raises(RankingUnavailableError, match=r"FAILED_PRECONDITION: .*'stars'"):
            client.explain(REQUEST)
        with pytest.raises(FieldError, match=r"^behavior_fields\[0\]: 'os'"):
            searching.search(REQUEST.query(behavior_fields=("os",)))
        with pytest.raises(InputError, match=r"^behavior_fields: a field is named twice"):
            searching.search(REQUEST.query(behavior_fields=("os", "os")))


def test_answers_say_what_the_bundle_was_trained_with_and_this_request_lacks(own_world):
    """Over both services and in one process alike, at load and with each answer; nothing of it degrades an answer."""
    bundle = load_bundle(own_world.bundle)
    trained = json.loads(SearchConfig.load().configuration)
    publish_bundle(own_world, seed=0, provenance=bundle.provenance.model_copy(update={"search": trained}))
    publish_index(own_world)
    fewer = SearchConfig.model_validate({"recent": {"top_k": 3}})
    differs = ("recent.top_k: trained with 20, is 3",)
    unknown = replace(REQUEST, user=parse_id("u9"), candidates=candidates("", categories=("tea",)))
    with (
        search_server(own_world.store, own_world.index, fewer, ServeOptions()) as search,
        ranking_server(own_world.bundle, f"127.0.0.1:{search.port}", ServeOptions(metrics_port=0)) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
        BehaviorStore.open(own_world.store) as store,
    ):
        here = Ranker.load(own_world.bundle, Searcher(store, IndexGeneration.open(own_world.index), fewer))
        assert here.check_retriever() == differs
        full = replace(REQUEST, context_fields={"hour": np.array([3], np.float32)})
        for ranker in (here, client):
            assert (ranker.rank(full).missing, ranker.rank(full).search_differences) == ((), differs)
            poor = ranker.rank(unknown)
            assert poor.missing == ("brand", "price", "segment", "hour", "weight", "shop", "tags", "likes")
            assert not poor.degraded
            assert ranker.rank(REQUEST).missing == ranker.explain(REQUEST).missing == ("hour",)
            assert ranker.explain(REQUEST).search_differences == differs
        assert metric(ranking, "lookback_missing_inputs_total") == 2
