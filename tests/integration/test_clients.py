"""The clients of both services, blocking and asyncio, against real servers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from model_stage import AsyncRankClient, RankClient, RankRequest
from model_stage.errors import RankingUnavailableError
from search_stage import AsyncSearchClient, SearchClient
from search_stage.config import SearchConfig
from search_stage.errors import SearchServiceError
from search_stage.serving.server import search_server
from serving import ServeOptions
from serving.deadline import Deadline
from store.errors import DeadlineExceededError, InputError
from store.events import EventBatch
from store.retrieval import SearchRequest
from store.types import NO_ID, parse_id
from tests.worlds import wire
from tests.worlds.services import AS_OF_MS, candidates

USER = parse_id("u3")
ADS = candidates("a1", "a2", "c1")
RANK = RankRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS)
SEARCH = SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS)


def in_loop(make, ask):
    """Makes an asyncio client, asks, and closes it."""

    async def run():
        async with make() as client:
            return await ask(client)

    return asyncio.run(run())


def test_both_clients_of_ranking_answer_alike(ranking, rank_client):
    def make():
        return AsyncRankClient(f"127.0.0.1:{ranking.port}")

    wire.assert_same(in_loop(make, lambda client: client.rank(RANK)), rank_client.rank(RANK))
    explained = in_loop(make, lambda client: client.explain(RANK, 1, Deadline.after(30), "the-id"))
    assert explained == rank_client.explain(RANK, 1)
    bad = RankRequest(user=USER, as_of_ms=0, candidates=ADS)
    for ask in (rank_client.rank, lambda request: in_loop(make, lambda client: client.rank(request))):
        with pytest.raises(InputError, match=r"^as_of_ms"):
            ask(bad)
    with pytest.raises(DeadlineExceededError):
        in_loop(make, lambda client: client.rank(RANK, Deadline.after(-1)))


def test_a_service_that_is_not_there_is_unavailable_and_a_closed_client_says_so():
    with RankClient("127.0.0.1:1") as client, pytest.raises(RankingUnavailableError, match="UNAVAILABLE"):
        client.rank(RANK)
    with pytest.raises(RankingUnavailableError, match="closed"):
        client.rank(RANK)
    with pytest.raises(RankingUnavailableError, match="UNAVAILABLE"):
        in_loop(lambda: AsyncRankClient("127.0.0.1:1"), lambda client: client.rank(RANK))
    with SearchClient("127.0.0.1:1") as search, pytest.raises(SearchServiceError, match="UNAVAILABLE"):
        search.search(SEARCH)


def test_both_clients_of_search_answer_as_the_retriever(search, search_client):
    address = f"127.0.0.1:{search.port}"
    expected, asked = search_client.search(SEARCH), np.array([parse_id("tea")], np.uint64)
    above = search_client.ancestors(asked)
    with SearchClient(address) as client:
        wire.assert_same(client.search(SEARCH), expected)
        wire.assert_same(client.ancestors(asked), above)
        with pytest.raises(SearchServiceError, match="UNIMPLEMENTED: DeleteUser"):
            client.delete_user(USER)
    wire.assert_same(in_loop(lambda: AsyncSearchClient(address), lambda each: each.search(SEARCH)), expected)
    wire.assert_same(in_loop(lambda: AsyncSearchClient(address), lambda each: each.ancestors(asked)), above)


def batch(*times_ms):
    count = len(times_ms)
    return EventBatch(
        user=np.full(count, 77, np.uint64),
        item=np.full(count, parse_id("t1"), np.uint64),
        category=np.full(count, NO_ID, np.uint64),
        timestamp_ms=np.array(times_ms, np.int64),
        domain=["content"] * count,
        action=["buy"] * count,
        scene=[""] * count,
        key=np.full(count, NO_ID, np.uint64),
    )


def test_what_is_appended_is_read_page_by_page_and_deleted(own_world):
    with search_server(own_world.store, None, SearchConfig.load(), ServeOptions(), append=True) as server:
        address = f"127.0.0.1:{server.port}"
        with SearchClient(address) as client:
            appended = client.append(batch(1_000, 2_000, -5))
            assert (appended.num_accepted, appended.num_refused, list(appended.reasons)) == (2, 1, [2])
            assert client.append(batch(1_000)).num_duplicates == 1
            pages = list(client.history(77))
        async_append = in_loop(lambda: AsyncSearchClient(address), lambda each: each.append(batch(3_000)))
        assert async_append.num_accepted == 1

        async def read(client):
            return [page async for page in client.history(77, as_of_ms=2_500)]

        bounded = in_loop(lambda: AsyncSearchClient(address), read)
        assert [page.behaviors.timestamp_ms.tolist() for page in pages] == [[2_000, 1_000]]
        assert [page.behaviors.timestamp_ms.tolist() for page in bounded] == [[2_000, 1_000]]
        assert in_loop(lambda: AsyncSearchClient(address), lambda each: each.delete_user(77)) == 3
