"""Search down, slow or broken; bad generations; a model stage that goes on answering, and says what is missing."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial

import grpc
import numpy as np
import pytest

from model_stage.errors import RankingUnavailableError, SearchUnavailableError
from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions, Server, ServerMetrics, Service, StatusTable, current_call, make_logger
from serving.deadline import Deadline
from store.errors import CorruptGenerationError, DeadlineExceededError
from store.retrieval import SearchRequest
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, candidates, ingest, metric, publish_bundle, publish_index, write_dataset

ADS = candidates("a1", "a2", "c1")
REQUEST = RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=ADS)
OPTIONS = ServeOptions(metrics_port=0)


@contextmanager
def ranking_over(bundle, search_address):
    with (
        ranking_server(bundle, search_address, OPTIONS) as server,
        RankClient(f"127.0.0.1:{server.port}") as client,
    ):
        yield server, client


@contextmanager
def black_hole():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def nobody():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"127.0.0.1:{port}"


def in_time(call):
    """Makes a call again that ran out of time: a machine may stand still for longer than the ranker keeps back."""
    for _ in range(4):
        with suppress(DeadlineExceededError):
            return call()
    return call()


@pytest.mark.parametrize("search", [nobody, black_hole])
def test_without_search_ranking_answers_in_time_degraded_and_says_so(world, search):
    with search() as address, ranking_over(world.bundle, address) as (server, client):
        client.rank(REQUEST, Deadline.after(5))  # the first call of a process pays for its own start
        result = in_time(lambda: client.rank(REQUEST, Deadline.after(1)))
        assert result.degraded
        assert "search" in result.degraded_reason
        assert result.num_behaviors == 0
        assert result.num_retrieved.tolist() == [0, 0, 0]
        assert result.versions.store_generation == ""
        assert np.isfinite(result.probability).all()
        assert metric(server, "lookback_degraded_total") >= 2
        with pytest.raises(RankingUnavailableError):
            in_time(lambda: client.explain(REQUEST, deadline=Deadline.after(1)))


def test_search_that_comes_up_later_is_found_without_a_restart(world):
    with nobody() as address, ranking_over(world.bundle, address) as (_, client):
        assert client.rank(REQUEST).degraded
        port = int(address.rpartition(":")[2])
        with search_server(world.store, world.index, SearchConfig.load(), ServeOptions(port=port)):
            give_up_s = time.monotonic() + 10
            while client.rank(REQUEST).degraded:
                assert time.monotonic() < give_up_s
                time.sleep(0.05)
        assert client.rank(REQUEST).degraded


class Recorder(search_pb2_grpc.SearchServiceServicer):
    """A search stage that answers nonsense and keeps what it was told."""

    def __init__(self):
        self.calls = []

    def Search(self, request, context):  # noqa: N802
        self.calls.append((current_call().deadline.remaining_s(), current_call().request_id))
        return search_pb2.SearchResponse(store_generation="nonsense")


@contextmanager
def recording():
    recorder = Recorder()
    add = partial(search_pb2_grpc.add_SearchServiceServicer_to_server, recorder)
    service = Service(name="lookback.search.v1.SearchService", add=add)
    with Server((service,), ServeOptions(), StatusTable(), ServerMetrics(), make_logger("recorder")) as server:
        yield recorder, f"127.0.0.1:{server.port}"


def test_deadline_and_request_id_are_passed_on_with_time_kept_back_for_ranking(world):
    with recording() as (recorder, address), ranking_over(world.bundle, address) as (_, client):
        client.rank(REQUEST, Deadline.after(3), "the-id")
        remaining_s, request_id = recorder.calls[-1]  # the first one is the server's own, when it starts
        assert 1 < remaining_s < 2.99
        assert request_id == "the-id"


def test_an_answer_that_breaks_the_contract_is_no_answer(world):
    with recording() as (_, address), ranking_over(world.bundle, address) as (_, client):
        result = client.rank(REQUEST)
        assert result.degraded
        assert "cannot be read: " in result.degraded_reason


def test_a_deadline_that_has_passed_is_not_worked_for(world):
    with recording() as (recorder, address), ranking_over(world.bundle, address) as (_, client):
        recorder.calls.clear()  # what the server asks when it starts
        with pytest.raises(DeadlineExceededError):
            client.rank(REQUEST, Deadline.after(0))
        with RemoteRetriever(address) as search, pytest.raises(SearchUnavailableError, match="no time"):
            search.search(SearchRequest(user=1, as_of_ms=1, candidates=ADS), Deadline.after(0))
        assert recorder.calls == []


def test_a_closed_client_says_so():
    client = RemoteRetriever("127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(SearchUnavailableError, match="closed"):
        client.search(SearchRequest(user=1, as_of_ms=1, candidates=ADS))


@contextmanager
def admin(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        yield lambda: stub.Reload(admin_pb2.ReloadRequest(), timeout=30).versions


def damage(root, file):
    """Flips one byte of a file of the generation that is published now."""
    name = (root / "CURRENT").read_text().strip()
    path = root / "generations" / name / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_a_reload_serves_the_new_bundle_and_refuses_a_damaged_one(own_world):
    with nobody() as address, ranking_over(own_world.bundle, address) as (server, client), admin(server) as reload:
        first = client.rank(REQUEST)
        second_name = publish_bundle(own_world, seed=1)
        assert client.rank(REQUEST).versions == first.versions
        assert reload().bundle == second_name
        second = client.rank(REQUEST)
        assert second.versions.bundle == second_name
        assert not np.array_equal(second.probability, first.probability)
        publish_bundle(own_world, seed=2)
        path = damage(own_world.bundle, "weights.safetensors")
        with pytest.raises(grpc.RpcError) as caught:
            reload()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert str(path) in caught.value.details()
        assert client.rank(REQUEST).versions.bundle == second_name


def test_a_reload_under_load_fails_no_request_and_mixes_no_generations(own_world):
    options = ServeOptions()
    with search_server(own_world.store, own_world.index, SearchConfig.load(), options) as server:
        request = SearchRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=ADS)
        ended, seen, failures = threading.Event(), set(), []

        def ask():
            with RemoteRetriever(f"127.0.0.1:{server.port}") as client:
                while not ended.is_set():
                    try:
                        found = client.search(request)
                        seen.add((found.store_generation, found.index_generation, found.num_behaviors))
                    except SearchUnavailableError as error:
                        failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        write_dataset(own_world.folder / "data", behaviors_per_user=55)
        store_name = ingest(own_world.folder / "data", own_world.store).generation
        index_name = publish_index(own_world)
        with admin(server) as reload:
            versions = reload()
        with RemoteRetriever(f"127.0.0.1:{server.port}") as client:
            client.search(request)
        time.sleep(0.2)
        ended.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert (versions.store_generation, versions.index_generation) == (store_name, index_name)
        assert len(seen) == 2, seen
        assert {count for store, _, count in seen if store == store_name} == {55}
        assert {count for store, _, count in seen if store != store_name} == {40}


@pytest.mark.parametrize("part", ["store", "index"])
def test_a_damaged_generation_is_refused_at_the_start_and_names_the_file(own_world, part):
    file = {"store": "base/data.mdb", "index": "attention.npy"}[part]
    path = damage({"store": own_world.store, "index": own_world.index}[part], file)
    with (
        pytest.raises(CorruptGenerationError, match=str(path)),
        search_server(own_world.store, own_world.index, SearchConfig.load(), ServeOptions()),
    ):
        pass
