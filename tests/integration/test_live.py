"""Live events over gRPC: acknowledged means durable and seen by the next read, of search too."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from model_stage.serving.remote_retriever import RemoteRetriever
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from search_stage.serving.service import LARGEST_APPEND
from serving import ServeOptions
from store import BehaviorStore, parse_id, rebuild, verify
from store.errors import InputError, LockedError
from store.retrieval import SearchRequest
from store.types import NO_ID
from tests.worlds.calls import column, events, history_of, results
from tests.worlds.services import AS_OF_MS, candidates
from tests.worlds.wire import assert_same

USER = parse_id("u3")
NEWCOMER = parse_id("somebody new")
TEA = parse_id("t1")


@contextmanager
def live_server(world):
    with (
        search_server(world.store, world.index, SearchConfig.load(), ServeOptions(), append=True) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield server, search_pb2_grpc.SearchServiceStub(channel), admin_pb2_grpc.AdminServiceStub(channel)


def test_what_is_appended_is_found_by_the_next_search(own_world):
    with live_server(own_world) as (server, stub, _), RemoteRetriever(f"127.0.0.1:{server.port}") as client:
        request = SearchRequest(user=NEWCOMER, as_of_ms=AS_OF_MS, candidates=candidates("a1", categories=("tea",)))
        assert client.search(request).num_behaviors == 0
        answer = stub.Append(events([NEWCOMER] * 2, [TEA, 12345], [AS_OF_MS - 5, AS_OF_MS + 5]), timeout=10)
        assert results(answer) == [1, 1]
        found = client.search(request)
        assert found.num_behaviors == 1  # the other one is not before the as-of time
        assert found.behaviors.item.tolist() == [TEA]
        assert found.statistics.total_count.sum() == 1
        assert history_of(stub, NEWCOMER)[1] == [12345, TEA]


def test_a_search_is_answered_again_as_of_the_live_events_that_it_saw(own_world):
    with live_server(own_world) as (server, stub, admin), RemoteRetriever(f"127.0.0.1:{server.port}") as client:
        request = SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=candidates("a1", "c1", "s1"))
        answers = [client.search(request)]
        for age_ms in (5, 7, 3):
            stub.Append(events([USER, NEWCOMER], [TEA, TEA], [AS_OF_MS - age_ms] * 2, domain=f"d{age_ms}"), timeout=10)
            answers.append(client.search(request))
        assert [found.delta_sequence for found in answers] == [0, 2, 4, 6]
        assert [found.num_behaviors - answers[0].num_behaviors for found in answers] == [0, 1, 2, 3]
        for found in answers:
            again = client.search(replace(request, delta_sequence=found.delta_sequence))
            assert again.vocabulary.domains[: len(found.vocabulary.domains)] == found.vocabulary.domains
            assert_same(replace(again, vocabulary=found.vocabulary), found)
        with pytest.raises(InputError, match=r"^delta_sequence: 7 was never given; the last number is 6"):
            client.search(replace(request, delta_sequence=7))
        stub.DeleteUser(search_pb2.DeleteUserRequest(user=USER), timeout=10)
        assert client.search(replace(request, delta_sequence=6)).num_behaviors == 0  # gone is gone
        rebuild(own_world.store, keep=2)
        admin.Reload(admin_pb2.ReloadRequest(), timeout=60)
        with pytest.raises(InputError, match=r"^delta_sequence: 6 cannot be told apart .* has merged all up to 7"):
            client.search(replace(request, delta_sequence=6))


def test_a_stream_that_the_generation_does_not_know_is_answered_by_name(own_world):
    with live_server(own_world) as (server, stub, _), RemoteRetriever(f"127.0.0.1:{server.port}") as client:
        stub.Append(events([NEWCOMER], [TEA], [AS_OF_MS - 5], domain="chat", action="say"), timeout=10)
        request = SearchRequest(user=NEWCOMER, as_of_ms=AS_OF_MS, candidates=candidates("a1", categories=("tea",)))
        found = client.search(request)
        assert [found.vocabulary.domains[code] for code in found.behaviors.domain] == ["chat"]
        assert [found.vocabulary.actions[code] for code in found.behaviors.action] == ["say"]
        assert found.statistics.total_count.sum() == 0  # streams are those of the generation


def test_every_event_gets_its_result(own_world):
    with live_server(own_world) as (_, stub, _):
        request = events(
            [USER, USER, USER, NO_ID, USER],
            [1, 1, 2, 3, 4],
            [AS_OF_MS, AS_OF_MS, AS_OF_MS, AS_OF_MS, 9_000_000_000_000],
            event_key=column([NO_ID, NO_ID, 5, 6, 7], "<u8"),
        )
        answer = stub.Append(request, timeout=10)
        assert results(answer) == [1, 2, 1, 3, 3]
        assert [reason.split(":")[0] for reason in answer.refusals] == ["user", "timestamp_ms"]
        assert results(stub.Append(request, timeout=10)) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.domains.pop(), "domains"),
        (lambda m: m.scenes.append("one"), "scenes"),
        (lambda m: m.item.CopyFrom(column([1], "<u8")), "item"),
        (lambda m: m.timestamp_ms.CopyFrom(column([1, 2], "<u8")), "timestamp_ms"),
        (lambda m: m.user.CopyFrom(column([1.5], "<f4")), "user"),
        (lambda m: m.category.CopyFrom(column([1], "<u8")), "category"),
        (lambda m: m.event_key.CopyFrom(column([1], "<u8")), "event_key"),
        (lambda m: m.fields.add(name="x", values=column([1.0], "<f4")), "fields['x']"),
    ],
)
def test_append_refuses_by_name(own_world, change, field):
    with live_server(own_world) as (_, stub, _):
        message = events([1, 2], [1, 2], [5, 6])
        change(message)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Append(message, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith(field), caught.value.details()


def test_a_call_takes_so_many_events_and_no_more(own_world):
    with live_server(own_world) as (_, stub, _):
        count = LARGEST_APPEND + 1
        with pytest.raises(grpc.RpcError, match="at most"):
            stub.Append(events([1] * count, range(count), [5] * count), timeout=10)
        assert results(stub.Append(events([1] * (count - 1), range(count - 1), [5] * (count - 1)), timeout=20))[-1] == 1
        assert results(stub.Append(events([], [], []), timeout=10)) == []


def test_a_deleted_user_is_gone_at_once_and_for_good(own_world):
    with live_server(own_world) as (server, stub, admin), RemoteRetriever(f"127.0.0.1:{server.port}") as client:
        stub.Append(events([USER], [TEA], [AS_OF_MS - 5]), timeout=10)
        assert stub.DeleteUser(search_pb2.DeleteUserRequest(user=USER), timeout=10).num_deleted == 41
        assert history_of(stub, USER)[0] == []
        request = SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=candidates("a1"))
        found = client.search(request)
        assert found.num_behaviors == 0
        assert found.user_fields["segment"].tolist() == [NO_ID]
        assert found.user_fields["likes"].lengths.tolist() == [0]
        assert results(stub.Append(events([USER], [TEA], [AS_OF_MS - 5]), timeout=10)) == [3]
        rebuild(own_world.store, keep=1)
        admin.Reload(admin_pb2.ReloadRequest(), timeout=20)
        assert history_of(stub, USER)[0] == []
        assert verify(own_world.store).num_users == 9


def test_a_reload_follows_a_rebuild_and_frees_the_delta(own_world):
    with live_server(own_world) as (_, stub, admin), BehaviorStore.open(own_world.store) as store:
        stub.Append(events([NEWCOMER], [TEA], [AS_OF_MS]), timeout=10)
        report = rebuild(own_world.store, keep=1)
        assert report.num_live == 1
        stub.Append(events([NEWCOMER], [TEA], [AS_OF_MS + 1]), timeout=10)
        assert history_of(stub, NEWCOMER)[0] == [AS_OF_MS + 1, AS_OF_MS]
        versions = admin.Reload(admin_pb2.ReloadRequest(), timeout=20).versions
        assert versions.store_generation == report.generation
        assert history_of(stub, NEWCOMER)[0] == [AS_OF_MS + 1, AS_OF_MS]
        with store.snapshot() as snapshot:  # opened the new one, since the delta lacks what the old one needs
            assert snapshot.generation == report.generation
            assert snapshot.delta.num_events == 1
            assert len(snapshot.user(NEWCOMER).history()) == 2


def test_pages_stay_right_while_newer_events_come_in(own_world):
    with live_server(own_world) as (_, stub, _):
        whole = history_of(stub, USER)[0]
        times, _, token = history_of(stub, USER, page_size=7)
        while token:
            stub.Append(events([USER], [TEA], [AS_OF_MS + len(times)]), timeout=10)
            page, _, token = history_of(stub, USER, page_size=7, page_token=token)
            times += page
        assert times == whole


def test_one_process_appends_at_a_time(own_world):
    with live_server(own_world), pytest.raises(LockedError, match="held by process"), live_server(own_world):
        pass
