"""A store whose taxonomy has grown since the bundle was trained: a new category ranks as its nearest known ancestor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app
from model_stage.cli.tables import ranking_table
from model_stage.encoding.ancestors import AncestorEncoder
from model_stage.errors import SearchUnavailableError
from model_stage.ranking.ranker import Ranker
from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from model_stage.training.examples import Examples
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.retrieval import retrieve_examples
from model_stage.training.scoring import logits_by_row
from model_stage.types import RankRequest
from protos.lookback.search.v1 import search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions
from serving.wire import search as wire
from store import BehaviorStore
from store.building.ingest import ingest
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, make_world, metric, publish_index

TEA, INFUSIONS, HERBAL, GARDEN = (parse_id(name) for name in ("tea", "infusions", "herbal", "garden"))
STANDS_FOR = {INFUSIONS: TEA, HERBAL: TEA}
ADS = candidates("", "", "h1", "t1", "", "a2", categories=("herbal", "tea", "herbal", "tea", "garden", "saws"))
REQUEST = RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=ADS)
SAME = 1e-6
"""float32 sums may differ by the thread that computes them, never by more."""


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """The world with its old bundle, and a store and an index of a tree that has grown below tea and beside all."""
    world = make_world(tmp_path_factory.mktemp("grown"))
    data = world.folder / "data"
    lines = {
        "taxonomy.csv": ["infusions,tea,Infusions", "herbal,infusions,Herbal tea", "garden,,Garden"],
        "items.csv": ["h1,herbal,Mint tea,,leaf,3,0.1,p1,hot"],
        "behaviors.csv": [
            f"u3,{item},{category},ads,click,{AS_OF_MS - days * DAY_MS},phone,3"
            for days, item, category in ((1, "h1", "herbal"), (2, "h2", "herbal"), (3, "g1", "garden"))
        ],
    }
    for name, added in lines.items():
        with (data / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in added)
    ingest(data, world.store, replace=True)
    publish_index(world)
    return world


@pytest.fixture(scope="module")
def searcher(grown):
    with BehaviorStore.open(grown.store) as store:
        yield Searcher(store, IndexGeneration.open(grown.index))


class Renamed:
    """A retriever that has the parents' names for what is new."""

    def __init__(self, retriever):
        self.retriever = retriever

    def search(self, request, deadline=None, request_id=""):
        found = self.retriever.search(request, deadline, request_id)
        renamed = replace(found.behaviors, category=known(found.behaviors.category))
        return replace(found, behaviors=renamed, candidate_category=known(found.candidate_category))

    def ancestors(self, categories, deadline=None, request_id=""):
        raise SearchUnavailableError("nobody says what is above them")


class Unhelpful(Renamed):
    """A retriever that says nothing of ancestors."""

    def search(self, request, deadline=None, request_id=""):
        return self.retriever.search(request, deadline, request_id)


def known(categories):
    return np.array([STANDS_FOR.get(category, category) for category in categories.tolist()], np.uint64)


def test_new_categories_rank_as_their_nearest_known_ancestor_over_two_services(grown, searcher):
    bundle = load_bundle(grown.bundle)
    expected = Ranker(bundle, Renamed(searcher)).rank(REQUEST)
    zero = Ranker(bundle, Unhelpful(searcher)).rank(REQUEST)
    assert zero.ancestors_reason == "nobody says what is above them"
    options = ServeOptions(metrics_port=0)
    with (
        search_server(grown.store, grown.index, SearchConfig.load(), options) as search,
        ranking_server(grown.bundle, f"127.0.0.1:{search.port}", options) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
        RemoteRetriever(f"127.0.0.1:{search.port}") as searching,
    ):
        for ranked in (client.rank(REQUEST), Ranker(bundle, searching).rank(REQUEST), client.rank(REQUEST)):
            assert (ranked.degraded, ranked.ancestors_reason) == (False, "")
            np.testing.assert_allclose(ranked.probability, expected.probability, atol=SAME, rtol=0)
        assert np.abs(ranked.probability - zero.probability)[[0, 2]].min() > 1e-4
        asked = (
            'lookback_requests_total{code="OK",experiment="",method="/lookback.search.v1.SearchService/GetAncestors"}'
        )
        assert metric(search, asked) == 2  # once by each of the two rankers, not once a request
        assert metric(ranking, "lookback_ancestors_unknown_total") == 0
        explained, oracle = client.explain(REQUEST, 2), Ranker(bundle, Renamed(searcher)).explain(REQUEST, 2)
        assert HERBAL in {behavior.category for behavior in explained.behaviors}
        assert explained.logit == pytest.approx(oracle.logit, abs=1e-5)
        for ours, theirs in zip(explained.contributions, oracle.contributions, strict=True):
            assert ours.logit == pytest.approx(theirs.logit, abs=1e-5)
        assert metric(search, asked) == 2


def test_rows_are_those_of_the_parent_and_of_nothing_without_one(grown, searcher):
    encoder = AncestorEncoder(load_bundle(grown.bundle).encoder, searcher)
    found = searcher.search(REQUEST.query(behavior_fields=("device", "stars")))
    encoded, _ = encoder.encode(REQUEST, found)
    herbal, tea, new_item, old_item, garden, _ = encoded.candidate_node.tolist()
    assert herbal == new_item == tea > 0
    assert garden == 0
    assert old_item not in (tea, 0)
    of = {name: encoded.behavior_node[found.behaviors.category == name].tolist() for name in (HERBAL, GARDEN)}
    assert of == {HERBAL: [tea, tea], GARDEN: [0]}


def test_evaluation_scores_as_ranking_does(grown, searcher, tmp_path):
    lines = ["user,item,timestamp_ms,label_click,label_buy"]
    lines += [f"u{user},{item},{AS_OF_MS},{user % 2},1" for user in (3, 4) for item in ("h1", "t2", "a2")]
    (tmp_path / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bundle = load_bundle(grown.bundle)
    impressions = load_impressions(tmp_path, bundle.schema, bundle.targets.names)
    preset = bundle.network_config.preset
    examples = retrieve_examples(impressions, bundle.schema, preset, searcher, bundle.encoder)
    logits = logits_by_row(bundle.network, Examples.of(list(examples)))
    offline = bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
    for rows, request in requests_of(impressions, bundle.schema):
        expected = Ranker(bundle, Renamed(searcher)).rank(request).probability
        np.testing.assert_allclose(offline[rows], expected, atol=SAME, rtol=0)
    with pytest.raises(SearchUnavailableError, match="nobody says"):
        list(retrieve_examples(impressions, bundle.schema, preset, Unhelpful(searcher), bundle.encoder))


class Earlier(search_pb2_grpc.SearchServiceServicer):
    """A search stage of before there was `GetAncestors`."""

    def __init__(self, searcher):
        self.searcher = searcher

    def Search(self, request, context):  # noqa: N802
        return wire.result_to_proto(self.searcher.search(wire.request_from_proto(request)))


@contextmanager
def earlier(searcher):
    server = grpc.server(ThreadPoolExecutor(2))
    search_pb2_grpc.add_SearchServiceServicer_to_server(Earlier(searcher), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_without_the_call_the_answer_is_there_says_so_and_is_counted(grown, searcher):
    zero = Ranker(load_bundle(grown.bundle), Unhelpful(searcher)).rank(REQUEST)
    with (
        earlier(searcher) as address,
        ranking_server(grown.bundle, address, ServeOptions(metrics_port=0)) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
    ):
        for count in (1, 2):
            result = client.rank(REQUEST)
            assert not result.degraded
            assert result.ancestors_reason.startswith("the search stage answered UNIMPLEMENTED")
            np.testing.assert_allclose(result.probability, zero.probability, atol=SAME, rtol=0)
            assert metric(ranking, "lookback_ancestors_unknown_total") == count
        assert client.explain(REQUEST).ancestors_reason.startswith("the search stage answered UNIMPLEMENTED")
        shown = ranking_table(client.rank(REQUEST), ["?"] * len(ADS)).title
        assert "count as unknown: the search stage answered UNIMPLEMENTED" in shown
        arguments = ("--user", "u3", "--candidate", "h1", "--as-of", AS_OF_MS, "--server", f"127.0.0.1:{ranking.port}")
        printed = CliRunner().invoke(app, ["explain", *map(str, arguments)], env={"COLUMNS": "200"}).output
        assert "count as unknown: the search stage answered UNIMPLEMENTED" in printed
        known_to_all = replace(REQUEST, user=parse_id("u5"), candidates=candidates("t1", "a2"))
        assert client.rank(known_to_all).ancestors_reason == ""
