"""What goes over the wire comes out as it went in, to the bit; what breaks the contract is refused by field."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.serving import convert as ranking_convert
from protos.lookback.admin.v1 import admin_pb2
from protos.lookback.columns.v1 import columns_pb2
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from serving.wire import events as events_wire
from serving.wire import search as search_wire
from serving.wire.admin import versions_to_proto
from serving.wire.columns import refusal_from_call, refusal_to_metadata
from serving.wire.history import page_from_proto, page_to_proto
from store.errors import FieldError, InputError
from store.retrieval import WHOLE_HISTORY, Candidates, SearchRequest
from tests.worlds import wire

lean = settings(deadline=None, max_examples=50)  # a shared machine is too uneven for a time limit per example


@lean
@given(wire.search_requests(), wire.words)
def test_search_request_survives_the_wire(request, request_id):
    message = search_wire.request_to_proto(request, request_id)
    received = search_pb2.SearchRequest.FromString(message.SerializeToString())
    assert received.request_id == request_id
    wire.assert_same(search_wire.request_from_proto(received), request)


@lean
@given(wire.search_results())
def test_search_result_survives_the_wire(result):
    message = search_wire.result_to_proto(result)
    received = search_pb2.SearchResponse.FromString(message.SerializeToString())
    wire.assert_same(search_wire.result_from_proto(received, len(result.candidate_category)), result)


@lean
@given(wire.history_pages())
def test_a_page_of_history_survives_the_wire(page):
    received = search_pb2.GetHistoryResponse.FromString(page_to_proto(page).SerializeToString())
    wire.assert_same(page_from_proto(received), page)


def test_a_message_cannot_ask_for_more_than_a_number_of_newest_behaviors():
    message = search_pb2.SearchRequest(user=1, as_of_ms=1, newest=WHOLE_HISTORY)
    message.candidates.CopyFrom(
        search_wire.request_to_proto(
            SearchRequest(user=1, as_of_ms=1, candidates=Candidates.by_id(np.array([1], np.uint64)))
        ).candidates
    )
    assert search_wire.request_from_proto(message).newest < WHOLE_HISTORY


@lean
@given(wire.ancestors)
def test_ancestors_survive_the_wire(answer):
    message = search_wire.ancestors_to_proto(answer)
    received = search_pb2.GetAncestorsResponse.FromString(message.SerializeToString())
    wire.assert_same(search_wire.ancestors_from_proto(received, len(answer.above)), answer)
    for broken in (len(answer.above) + 1, len(answer.above) - 1):
        with pytest.raises(InputError, match=r"^offsets: expected"):
            search_wire.ancestors_from_proto(received, broken)


@lean
@given(wire.event_batches())
def test_events_survive_the_wire(batch):
    message = events_wire.batch_to_proto(batch)
    got = events_wire.batch_from_proto(search_pb2.AppendRequest.FromString(message.SerializeToString()))
    words = ("domain", "action", "scene")
    assert [list(getattr(got, name)) for name in words] == [getattr(batch, name) for name in words]
    wire.assert_same(dataclasses.replace(got, **{name: getattr(batch, name) for name in words}), batch)


@lean
@given(st.sampled_from(("user", "candidate", "context", "behavior", "event")), wire.words)
def test_the_refusal_of_a_field_survives_the_wire(part, field):
    metadata = refusal_to_metadata(FieldError("x: no", part, field))
    call = SimpleNamespace(details=lambda: "x: no", trailing_metadata=lambda: metadata)
    got = refusal_from_call(call)
    assert isinstance(got, FieldError)
    assert (str(got), got.part, got.field) == ("x: no", part, field)
    call.trailing_metadata = lambda: None
    assert type(refusal_from_call(call)) is InputError


@lean
@given(st.dictionaries(st.sampled_from(("store", "index", "bundle")), wire.words))
def test_versions_survive_the_wire(served):
    message = admin_pb2.Versions.FromString(versions_to_proto(served).SerializeToString())
    got = {"store": message.store_generation, "index": message.index_generation, "bundle": message.bundle}
    assert got == {"store": "", "index": "", "bundle": ""} | served
    assert message.software


@lean
@given(wire.rank_requests(), wire.words)
def test_rank_request_survives_the_wire(request, request_id):
    message = ranking_convert.request_to_proto(request, request_id)
    received = ranking_pb2.RankRequest.FromString(message.SerializeToString())
    assert received.request_id == request_id
    wire.assert_same(ranking_convert.request_from_proto(received), request)


@lean
@given(wire.rank_results())
def test_rank_result_survives_the_wire(result):
    received = ranking_pb2.RankResponse.FromString(ranking_convert.result_to_proto(result).SerializeToString())
    wire.assert_same(ranking_convert.result_from_proto(received), result)


@lean
@given(wire.explanations())
def test_explanation_survives_the_wire(result):
    received = ranking_pb2.ExplainResponse.FromString(ranking_convert.explanation_to_proto(result).SerializeToString())
    wire.assert_same(ranking_convert.explanation_from_proto(received), result)


@lean
@given(wire.search_results(), st.data())
def test_a_search_answer_with_a_broken_column_is_refused_by_name(result, data):
    message = search_wire.result_to_proto(result)
    field = data.draw(st.sampled_from(["offsets", "index", "score", "match_level", "source", "candidate_category"]))
    getattr(message, field).data += b"\x00"
    with pytest.raises(InputError):
        search_wire.result_from_proto(message, len(result.candidate_category))


@lean
@given(wire.search_results())
def test_an_index_beyond_the_union_is_refused(result):
    message = search_wire.result_to_proto(result)
    message.index.data = np.full(len(result.index), len(result.behaviors), "<i4").tobytes()
    if len(result.index):
        with pytest.raises(InputError, match=r"^index: "):
            search_wire.result_from_proto(message, len(result.candidate_category))


@lean
@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read_but_never_breaks(data):
    for message_type, read in (
        (search_pb2.SearchRequest, search_wire.request_from_proto),
        (search_pb2.GetAncestorsRequest, search_wire.categories_from_proto),
        (ranking_pb2.RankRequest, ranking_convert.request_from_proto),
    ):
        try:
            message = message_type.FromString(data)
        except DecodeError:  # protobuf's own refusal, before anything of ours runs
            continue
        with contextlib.suppress(InputError):
            read(message)


@lean
@given(wire.candidates())
def test_columns_left_out_take_their_defaults(candidates):
    request = SearchRequest(user=1, as_of_ms=1, candidates=candidates)
    item = search_wire.request_to_proto(request).candidates.item
    left_out = columns_pb2.Candidates(item=item)
    for module, message in (
        (search_wire, search_pb2.SearchRequest(candidates=left_out)),
        (ranking_convert, ranking_pb2.RankRequest(candidates=left_out)),
    ):
        got = module.request_from_proto(message).candidates
        wire.assert_same(got.item, candidates.item)
        assert (got.category == np.uint64(2**64 - 1)).all()
        assert len(got.covers) == 0
        assert not got.covers_offsets.any()
