"""Both services over real gRPC on the loopback: the same answers as in one process, and every refusal by name."""

from __future__ import annotations

import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from model_stage.bundle import load_bundle
from model_stage.errors import SearchUnavailableError
from model_stage.ranking.ranker import Ranker
from model_stage.serving import convert as ranking_convert
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.columns.v1 import columns_pb2
from protos.lookback.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from serving.deadline import Deadline
from serving.wire import search as search_wire
from store import BehaviorStore
from store.errors import InputError
from store.lists import Lists
from store.publishing.generation import current_name
from store.retrieval import SearchRequest, TopK
from store.types import NO_ID, parse_id
from tests.worlds import wire
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, metric

USER = parse_id("u3")
ADS = candidates("a1", "a2", "a3", "c1", "zz", "", categories=("tea", "saws", "coffee", "coffee", "tea", "nowhere"))


@pytest.fixture(scope="module")
def searcher(world):
    with BehaviorStore.open(world.store) as store:
        yield Searcher(store, IndexGeneration.open(world.index))


def search_request(**changes):
    return SearchRequest(**{"user": USER, "as_of_ms": AS_OF_MS, "candidates": ADS, **changes})


def rank_request(**changes):
    return RankRequest(**{"user": USER, "as_of_ms": AS_OF_MS, "candidates": ADS, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"with_names": True},
        {"user": parse_id("nobody"), "with_names": True},
        {"as_of_ms": AS_OF_MS - 20 * DAY_MS},
        {"as_of_ms": 1},
        {"top_k": TopK(hard=3, soft=2, recent=0)},
        {"candidates": candidates("a1", "new", covers=(("t2", "s1"), ("c1",)))},
    ],
    ids=["plain", "names", "unknown user", "half the history", "no history", "lower limits", "own products"],
)
def test_search_over_grpc_equals_the_searcher_bit_by_bit(searcher, search_client, changes):
    request = search_request(**changes)
    wire.assert_same(search_client.search(request), searcher.search(request))


RANK_CHANGES = [
    {},
    {"user": parse_id("nobody")},
    {"targets": ("buy",)},
    {
        "candidate_fields": {"price": np.array([1, np.nan, 3, 4, 5, 6], np.float32)},
        "user_fields": {"segment": np.array([parse_id("s1")], np.uint64)},
        "context_fields": {"hour": np.array([7], np.float32)},
    },
    {
        "candidate_fields": {
            "weight": np.array([0.1, np.nan, 0.2, 9, -1, 1.5], np.float32),
            "shop": np.array([1, NO_ID, 2, 1, 5, 6], np.uint64),
            "tags": Lists(
                values=np.array([parse_id(name) for name in ("new", "hot", "unseen")], np.uint64),
                offsets=np.array([0, 2, 2, 2, 3, 3, 3]),
            ),
        },
        "user_fields": {"likes": Lists(values=np.arange(256, dtype=np.uint64), offsets=np.array([0, 256]))},
    },
]


@pytest.mark.parametrize(
    "changes", RANK_CHANGES, ids=["plain", "unknown user", "one target", "own fields", "own lists"]
)
def test_ranking_over_two_services_equals_the_ranker_in_one_process(world, searcher, rank_client, changes):
    ranker = Ranker(load_bundle(world.bundle), searcher)
    request = rank_request(**changes)
    alone, served = ranker.rank(request), rank_client.rank(request)
    # Equal inputs through equal code: float32 sums may differ by the thread that computes them, never by more.
    np.testing.assert_allclose(served.probability, alone.probability, atol=1e-6, rtol=0)
    assert np.unique(served.probability).size > 1
    for field in ("targets", "num_behaviors", "degraded", "degraded_reason", "versions"):
        assert getattr(served, field) == getattr(alone, field)
    assert not served.degraded
    assert served.num_retrieved.tolist() == alone.num_retrieved.tolist()


def test_explanations_over_two_services_equal_the_ranker_in_one_process(world, searcher, rank_client):
    ranker = Ranker(load_bundle(world.bundle), searcher)
    alone, served = ranker.explain(rank_request(), 1), rank_client.explain(rank_request(), 1)
    assert served.candidate_name == alone.candidate_name == "Saw offer"
    assert served.probability == pytest.approx(alone.probability, abs=1e-6)
    assert len(served.behaviors) == len(alone.behaviors) > 0
    for ours, theirs in zip(served.behaviors, alone.behaviors, strict=True):
        assert ours.attention == pytest.approx(theirs.attention, abs=1e-6)
        assert ours.score == pytest.approx(theirs.score, abs=1e-6)
        assert (ours.item, ours.item_name, ours.timestamp_ms) == (theirs.item, theirs.item_name, theirs.timestamp_ms)


def column(dtype, values):
    kinds = {4: "<u8", 6: "<i8", 7: "<f4", 5: "<i4"}
    return columns_pb2.Column(dtype=dtype, data=np.array(values).astype(kinds[dtype]).tobytes())


def _set(path, value):
    """A change of a message: the column at a path, given as (dtype, values)."""

    def change(message):
        target = message
        *parents, last = path.split(".")
        for name in parents:
            target = getattr(target, name)
        if isinstance(value, tuple):
            getattr(target, last).CopyFrom(column(*value))
        else:
            setattr(target, last, value)

    return change


SHARED_FAULTS = {
    "wrong dtype": (_set("candidates.item", (6, [1, 2])), "candidates.item"),
    "no dtype": (lambda m: m.candidates.item.ClearField("dtype"), "candidates.item"),
    "half a value": (lambda m: setattr(m.candidates.item, "data", b"123"), "candidates.item"),
    "ragged categories": (_set("candidates.category", (4, [1])), "candidates.category"),
    "offsets missing": (_set("candidates.covers", (4, [1])), "candidates.covers_offsets"),
    "offsets descend": (_set("candidates.covers_offsets", (6, [0, 1, 0])), "candidates.covers_offsets"),
    "offsets too short": (_set("candidates.covers_offsets", (6, [0, 0])), "candidates.covers_offsets"),
    "offsets past the end": (_set("candidates.covers_offsets", (6, [0, 0, 5])), "candidates.covers_offsets"),
    "no candidates": (lambda m: m.ClearField("candidates"), "candidates"),
    "1,001 candidates": (_set("candidates.item", (4, list(range(1001)))), "candidates"),
    "no time": (_set("as_of_ms", 0), "as_of_ms"),
    "a time before 1970": (_set("as_of_ms", -5), "as_of_ms"),
    "a time to come": (lambda m: setattr(m, "as_of_ms", int(time.time() * 1000) + 120_000), "as_of_ms"),
    "the reserved user": (_set("user", NO_ID), "user"),
    "an odd request id": (_set("request_id", "a\nb"), "request_id"),
}


def assert_refused(call, message, field):
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    assert caught.value.details().startswith(field), caught.value.details()


@pytest.mark.parametrize(("change", "field"), SHARED_FAULTS.values(), ids=SHARED_FAULTS)
def test_search_refuses_what_breaks_the_contract_and_names_the_field(search, change, field):
    message = search_wire.request_to_proto(search_request(candidates=candidates("a1", "a2")))
    message.candidates.ClearField("covers")
    change(message)
    with grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel:
        assert_refused(search_pb2_grpc.SearchServiceStub(channel).Search, message, field)


RANK_FAULTS = {
    **SHARED_FAULTS,
    "unknown target": (lambda m: m.targets.append("applause"), "targets"),
    "unknown field": (
        lambda m: m.user_fields.add(name="shoes", values=column(4, [1])),
        "user_fields",
    ),
    "NaN": (lambda m: m.candidate_fields.add(name="price", values=column(7, [1, np.nan])), "candidate_fields"),
    "infinite": (lambda m: m.context_fields.add(name="hour", values=column(7, [np.inf])), "context_fields"),
    "ragged field": (lambda m: m.candidate_fields.add(name="price", values=column(7, [1])), "candidate_fields"),
    "field of another type": (
        lambda m: m.context_fields.add(name="hour", values=column(4, [1])),
        "context_fields",
    ),
    "field of no type": (lambda m: m.context_fields.add(name="hour", values=column(5, [1])), "context_fields"),
    "a field twice": (
        lambda m: [m.context_fields.add(name="hour", values=column(7, [1])) for _ in range(2)],
        "context_fields",
    ),
    "257 values in a list": (
        lambda m: m.user_fields.add(name="likes", values=column(4, range(257)), offsets=column(6, [0, 257])),
        "user_fields['likes']: a list of 257 values, at most 256",
    ),
    "a list for a number": (
        lambda m: m.context_fields.add(name="hour", values=column(4, [1]), offsets=column(6, [0, 1])),
        "context_fields['hour']: lists of uint64 do not fit a numeric field",
    ),
    "an id for a list": (
        lambda m: m.user_fields.add(name="likes", values=column(4, [1])),
        "user_fields['likes']: uint64 values do not fit a multi_valued field",
    ),
    "a list of a candidate less": (
        lambda m: m.candidate_fields.add(name="tags", values=column(4, [1]), offsets=column(6, [0, 1])),
        "candidate_fields['tags'].offsets: expected 3 values, got 2",
    ),
    "lists that end too soon": (
        lambda m: m.user_fields.add(name="likes", values=column(4, [1, 2]), offsets=column(6, [0, 1])),
        "user_fields['likes'].offsets: must run from 0 to 2",
    ),
    "a list of none": (
        lambda m: m.user_fields.add(name="likes", values=column(4, [NO_ID]), offsets=column(6, [0, 1])),
        "user_fields['likes']: 2**64 - 1 is reserved",
    ),
    "odd presence": (
        lambda m: m.context_fields.add(name="hour", values=column(7, [1]), present=b"\x07"),
        "context_fields",
    ),
}


@pytest.mark.parametrize(("change", "field"), RANK_FAULTS.values(), ids=RANK_FAULTS)
def test_ranking_refuses_what_breaks_the_contract_and_names_the_field(ranking, change, field):
    message = ranking_convert.request_to_proto(rank_request(candidates=candidates("a1", "a2")))
    message.candidates.ClearField("covers")
    change(message)
    with grpc.insecure_channel(f"127.0.0.1:{ranking.port}") as channel:
        stub = ranking_pb2_grpc.RankingServiceStub(channel)
        assert_refused(stub.Rank, message, field)
        assert_refused(stub.Explain, ranking_pb2.ExplainRequest(request=message), field)


def test_an_explanation_of_no_candidate_is_refused_by_name(rank_client):
    with pytest.raises(InputError, match=r"^candidate: "):
        rank_client.explain(rank_request(), len(ADS))


def test_search_refusals_reach_a_client_of_the_model_stage_as_its_own(search_client):
    with pytest.raises(InputError, match=r"^as_of_ms: "):
        search_client.search(search_request(as_of_ms=0))


@pytest.mark.parametrize("name", ["search", "ranking"])
def test_health_and_reflection_list_the_services(request, name):
    server = request.getfixturevalue(name)
    own = {"search": "lookback.search.v1.SearchService", "ranking": "lookback.ranking.v1.RankingService"}[name]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert services == {
            own,
            "lookback.admin.v1.AdminService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", own, "lookback.admin.v1.AdminService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def history(stub, **fields):
    return stub.GetHistory(search_pb2.GetHistoryRequest(**fields), timeout=10)


def test_history_is_read_page_by_page_newest_first(world, search):
    with grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel, BehaviorStore.open(world.store) as store:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        times, items, token = [], [], ""
        while not times or token:
            page = history(stub, user=USER, page_size=15, page_token=token)
            times += np.frombuffer(page.behaviors.timestamp_ms.data, "<i8").tolist()
            items += np.frombuffer(page.behaviors.item.data, "<u8").tolist()
            assert len(times) <= 40
            token = page.next_page_token
        whole = store.history(USER)
        assert times == whole.timestamp_ms[::-1].tolist()
        assert items == whole.item[::-1].tolist()
        assert set(page.vocabulary.domains) == {"ads", "content"}
        cut = history(stub, user=USER, as_of_ms=AS_OF_MS - 30 * DAY_MS)
        assert len(cut.behaviors.item.data) // 8 == sum(at < AS_OF_MS - 30 * DAY_MS for at in times) > 0
        assert history(stub, user=parse_id("nobody")).behaviors.item.data == b""


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user": NO_ID}, "user"),
        ({"as_of_ms": -1}, "as_of_ms"),
        ({"page_size": 10_001}, "page_size"),
        ({"page_token": "garbage"}, "page_token"),
        ({"page_token": "1.2.3"}, "page_token"),
    ],
)
def test_history_refuses_by_name(search, fields, field):
    with grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        assert_refused(stub.GetHistory, search_pb2.GetHistoryRequest(**fields), field)


def test_ancestors_over_grpc_equal_those_of_the_searcher(searcher, search_client):
    asked = np.array([parse_id(name) for name in ("tea", "food", "nowhere", "saws")], np.uint64)
    alone, served = searcher.ancestors(asked), search_client.ancestors(asked, request_id="r")
    assert served.above.values.tolist() == [parse_id("food"), parse_id("tools")]
    for answer in (alone, served):
        assert answer.above.offsets.tolist() == [0, 1, 1, 1, 2]
        assert answer.store_generation == searcher.store_generation
    assert served.above.values.tolist() == alone.above.values.tolist()
    for refused in (asked[:0], np.arange(1001, dtype=np.uint64)):
        with pytest.raises(SearchUnavailableError, match=f"categories: must be 1 to 1000, got {len(refused)}"):
            search_client.ancestors(refused)
    with pytest.raises(SearchUnavailableError, match="no time was left"):
        search_client.ancestors(asked, Deadline.after(0))


@pytest.mark.parametrize(
    ("column_of", "field"),
    [
        ((4, []), "categories"),
        ((4, range(1001)), "categories"),
        ((6, [1]), "categories"),
        ((4, range(9000)), "GetAncestors: a request may have 65536 bytes"),
    ],
    ids=["none", "1,001", "another type", "more than 64 KiB"],
)
def test_ancestors_refuse_by_name(search, column_of, field):
    with grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        message = search_pb2.GetAncestorsRequest(categories=column(*column_of))
        assert_refused(stub.GetAncestors, message, field)
        assert_refused(stub.GetAncestors, search_pb2.GetAncestorsRequest(request_id="a\nb"), "request_id")
        assert_refused(stub.GetAncestors, search_pb2.GetAncestorsRequest(), "categories: dtype must be UINT64")


@pytest.mark.parametrize("method", ["Append", "DeleteUser"])
def test_what_is_not_built_yet_says_so(search, method):
    with grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        getattr(search_pb2_grpc.SearchServiceStub(channel), method)(
            getattr(search_pb2, f"{method}Request")(), timeout=10
        )
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details().startswith(method)


def test_unknown_ids_are_normal_answers_and_counted(search, search_client):
    names = [f"lookback_{what}_total" for what in ("empty_histories", "unknown_items", "unknown_categories")]
    before = [metric(search, name) for name in names]
    result = search_client.search(
        search_request(user=parse_id("nobody"), candidates=candidates("a1", "zz", categories=("tea", "nowhere")))
    )
    assert result.num_behaviors == 0
    after = [metric(search, name) for name in names]
    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1, 1]


def test_versions_name_what_is_served(world, search, ranking):
    for server, expected in (
        (search, {"store_generation": world.store, "index_generation": world.index}),
        (ranking, {"bundle": world.bundle}),
    ):
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)
            versions = stub.GetVersions(admin_pb2.GetVersionsRequest(), timeout=10).versions
            assert stub.Reload(admin_pb2.ReloadRequest(), timeout=30).versions == versions
        assert versions.software
        kinds = {"store_generation": "store", "index_generation": "index", "bundle": "model"}
        for field in kinds:
            name = current_name(expected[field], kinds[field]) if field in expected else ""
            assert getattr(versions, field) == name
