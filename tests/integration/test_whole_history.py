"""The user's whole history with a search: in one process out of the store, over gRPC by pages, the same either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_stage.errors import SearchUnavailableError
from model_stage.serving.remote_retriever import RemoteRetriever
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
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates

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
def both(own_world, monkeypatch):
    """The searcher and a client of a server over the same store, with live events behind its generation."""
    monkeypatch.setattr(questions, "HISTORY_PAGE", 7)
    with BehaviorStore.open(own_world.store) as store, LiveWriter(store) as writer:
        days = [0.5, 3.5, 3.5, 20, -1]
        live = [event(parse_id("u3"), parse_id("t1"), AS_OF_MS - int(d * DAY_MS), key=at) for at, d in enumerate(days)]
        writer.append(batch(*live))
    with (
        BehaviorStore.open(own_world.store) as store,
        search_server(own_world.store, own_world.index, CONFIG, ServeOptions(metrics_port=0)) as server,
        RemoteRetriever(f"127.0.0.1:{server.port}") as client,
    ):
        yield Searcher(store, IndexGeneration.open(own_world.index), CONFIG), client


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
