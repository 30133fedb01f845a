"""The user's whole history with a search: in one process out of the store, over gRPC by pages, the same either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_stage.bundle import load_bundle
from model_stage.errors import SearchUnavailableError
from model_stage.ranking.ranker import Ranker
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.training.example_folder import ExampleFolder
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.retrieval import ExampleSource
from model_stage.training.scoring import logits_by_row
from model_stage.types import RankRequest
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions
from serving.deadline import Deadline
from serving.wire import questions
from store import BehaviorStore, parse_id
from store.errors import FieldError
from store.live_writer import LiveWriter
from store.retrieval import WHOLE_HISTORY, SearchRequest
from tests.worlds import wire
from tests.worlds.appends import batch, event
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, publish_bundle

USERS = ("u0", "u3", "u7", "nobody")
FIELDS = ("device", "stars")
CONFIG = SearchConfig.model_validate(
    {
        "hard": {"default": {"quota": 4, "min_matches": 2, "max_level": 1}},
        "soft": {"top_k": 3},
        "recent": {"top_k": 1},
        "limits": {"max_newest": 2},
    }
)
"""A limit that holds for a number of newest behaviors, and not for all of them in one process."""


def request_for(user: str, *, as_of_ms: int = AS_OF_MS, newest: int = WHOLE_HISTORY, fields=FIELDS) -> SearchRequest:
    asked = candidates("a1", "a2", "x9", "never seen")
    return SearchRequest(
        user=parse_id(user), as_of_ms=as_of_ms, candidates=asked, newest=newest, behavior_fields=fields, with_names=True
    )


@pytest.fixture
def live_world(own_world, monkeypatch):
    """A world with live events behind its generation, and small pages."""
    monkeypatch.setattr(questions, "HISTORY_PAGE", 7)
    with BehaviorStore.open(own_world.store) as store, LiveWriter(store) as writer:
        days = [0.5, 3.5, 3.5, 20, -1]
        live = [event(parse_id("u3"), parse_id("t1"), AS_OF_MS - int(d * DAY_MS), key=at) for at, d in enumerate(days)]
        writer.append(batch(*live))
    return own_world


@pytest.fixture
def both(live_world):
    """The searcher, and a client of a server over the same store."""
    with (
        BehaviorStore.open(live_world.store) as store,
        search_server(live_world.store, live_world.index, CONFIG, ServeOptions(metrics_port=0)) as server,
        RemoteRetriever(f"127.0.0.1:{server.port}") as client,
    ):
        yield Searcher(store, IndexGeneration.open(live_world.index), CONFIG), client


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("days", [0, 17])
def test_pages_and_the_store_give_the_same(both, user, days):
    searcher, client = both
    request = request_for(user, as_of_ms=AS_OF_MS - days * DAY_MS)
    alone, remote = searcher.search(request), client.search(request)
    wire.assert_same(replace(remote, names=None, index=alone.index), replace(alone, names=None))
    # Of behaviors that are equal in everything another one may stand for the one that was retrieved.
    wire.assert_same(remote.behaviors.take(remote.index), alone.behaviors.take(alone.index))
    assert alone.num_newest == alone.num_behaviors == len(alone.behaviors)
    assert (alone.num_newest > 0) == (user != "nobody")
    for row in remote.index.tolist():
        assert remote.names.behavior_items[row] == alone.names.behavior_items[row]
        assert remote.names.behavior_categories[row] == alone.names.behavior_categories[row]


def test_what_was_retrieved_is_what_a_search_without_the_history_retrieves(both):
    for retriever in both:
        whole, few = retriever.search(request_for("u3")), retriever.search(request_for("u3", newest=50))
        assert few.num_newest == 2 < len(few.behaviors) < len(whole.behaviors)
        wire.assert_same(whole.behaviors.take(whole.index), few.behaviors.take(few.index))
        for name in ("offsets", "score", "match_level", "source", "same_as"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(few, name))


def test_pages_see_the_live_events_that_the_search_saw(both):
    """A search that is asked again as of an earlier moment: its pages are of that moment, too."""
    searcher, client = both
    last = searcher.search(request_for("u3")).delta_sequence
    counts = []
    for number in range(last - 4, last + 1):
        request = replace(request_for("u3"), delta_sequence=number)
        alone, remote = searcher.search(request), client.search(request)
        wire.assert_same(remote.behaviors, alone.behaviors)
        counts.append(alone.num_newest)
    assert counts[-1] == max(counts) > counts[0]


def test_nothing_at_or_after_the_as_of_time_is_there(both):
    """I6: one of the live events is a day after it, and one right at the time that is asked for second."""
    for retriever in both:
        for as_of_ms in (AS_OF_MS, AS_OF_MS - int(3.5 * DAY_MS), AS_OF_MS - int(3.5 * DAY_MS) + 1):
            found = retriever.search(request_for("u3", as_of_ms=as_of_ms))
            assert (found.behaviors.timestamp_ms < as_of_ms).all()
        before, after = (
            retriever.search(request_for("u3", as_of_ms=AS_OF_MS - int(3.5 * DAY_MS) + more)).num_newest
            for more in (0, 1)
        )
        assert after == before + 2


def test_pages_share_the_time_of_the_search_and_its_refusals(both):
    _, client = both
    with pytest.raises(SearchUnavailableError, match="no time was left"):
        client.search(request_for("u3"), Deadline.after(0))
    with pytest.raises(FieldError, match=r"behavior_fields\[0\]: 'os'"):
        client.search(request_for("u3", fields=("os",)))


PRESETS = ("din_history", "stca")
NAMES = ("a1", "a2", "a3", "t1", "c1", "x9", "never seen")


@pytest.fixture(params=PRESETS)
def rankers(live_world, request):
    """Rankers of one bundle, untrained but with parameters that matter: in one process and over gRPC."""
    publish_bundle(live_world, seed=3, preset=request.param)
    bundle = load_bundle(live_world.bundle)
    with torch.no_grad():
        for parameter in bundle.network.interest.parameters():
            parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    with (
        BehaviorStore.open(live_world.store) as store,
        search_server(live_world.store, None, CONFIG, ServeOptions(metrics_port=0)) as server,
        RemoteRetriever(f"127.0.0.1:{server.port}") as client,
    ):
        yield Ranker(bundle, Searcher(store, None, CONFIG)), Ranker(bundle, client)


def rank_request(user: str, *names: str, as_of_ms: int = AS_OF_MS) -> RankRequest:
    return RankRequest(user=parse_id(user), as_of_ms=as_of_ms, candidates=candidates(*names))


def test_library_grpc_and_examples_score_the_same(live_world, rankers, tmp_path):
    """I7, of histories with live events: rankers over the store and over pages, and what training reads."""
    lines = ["user,item,timestamp_ms,label_click,label_buy"]
    for user in (0, 3, 5, 8, 77):
        for days in (0, 3.5, 30):
            lines += [f"u{user},{name},{AS_OF_MS - int(days * DAY_MS)},1,0" for name in NAMES]
    (tmp_path / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    alone, remote = rankers
    bundle = alone.bundle
    impressions = load_impressions(tmp_path, bundle.schema, bundle.targets.names)
    with BehaviorStore.open(live_world.store) as store, store.snapshot() as snapshot:
        source = ExampleSource(
            schema=bundle.schema,
            preset=bundle.network_config.preset,
            vocabularies=bundle.vocabularies,
            snapshot=snapshot,
            retriever=alone.retriever,
            folder=ExampleFolder(path=tmp_path / "examples"),
        )
        examples = source.examples("test", impressions)
        assert examples.whole
        assert len(examples.histories.rows) == sum(
            snapshot.user(parse_id(f"u{user}")).columns.num_before(AS_OF_MS) for user in (0, 3, 5, 8, 77)
        ), "each user once, though of three requests"
        logits = logits_by_row(bundle.network, examples)
    offline = bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
    for rows, request in requests_of(impressions, bundle.schema):
        library, served = alone.rank(request), remote.rank(request)
        assert not served.degraded, served.degraded_reason
        np.testing.assert_allclose(served.probability, library.probability, atol=1e-6, rtol=0)
        np.testing.assert_allclose(library.probability, offline[rows], atol=1e-6, rtol=0)
    assert np.ptp(offline, axis=0).min() > 1e-3, "all scores are the same: this test says nothing"


def test_a_score_depends_on_its_candidate_alone(rankers):
    """I8."""
    for ranker in rankers:
        together = ranker.rank(rank_request("u3", *NAMES)).probability
        for at, name in enumerate(NAMES):
            alone = ranker.rank(rank_request("u3", name)).probability
            np.testing.assert_allclose(alone[0], together[at], atol=1e-6, rtol=0)


def test_an_explanation_names_the_behaviors_that_were_retrieved(rankers):
    alone, remote = (ranker.explain(rank_request("u3", *NAMES), 0) for ranker in rankers)
    assert [each.item_name for each in remote.behaviors] == [each.item_name for each in alone.behaviors]
    assert len(alone.behaviors) > 0
    for one, other in zip(alone.behaviors, remote.behaviors, strict=True):
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-6, rtol=0)
        assert 0 < one.attention[0] < 1
    assert 0 < alone.attention_sums[0] < 1, "the rest is on behaviors that were not retrieved"
