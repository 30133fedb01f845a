"""What goes over the wire comes out as it went in, to the bit; what breaks the contract is refused by field."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.serving import convert as ranking_convert
from model_stage.serving import search_client
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from search_stage.serving import convert as search_convert
from store.errors import InputError
from store.retrieval import SearchRequest
from tests.worlds import wire

lean = settings(deadline=None, max_examples=50)  # a shared machine is too uneven for a time limit per example


@lean
@given(wire.search_requests(), wire.words)
def test_search_request_survives_the_wire(request, request_id):
    message = search_client.request_to_proto(request, request_id)
    received = search_pb2.SearchRequest.FromString(message.SerializeToString())
    assert received.request_id == request_id
    wire.assert_same(search_convert.request_from_proto(received), request)


@lean
@given(wire.search_results())
def test_search_result_survives_the_wire(result):
    message = search_convert.result_to_proto(result)
    received = search_pb2.SearchResponse.FromString(message.SerializeToString())
    wire.assert_same(search_client.result_from_proto(received, len(result.candidate_category)), result)


@lean
@given(wire.ancestors)
def test_ancestors_survive_the_wire(answer):
    message = search_convert.ancestors_to_proto(answer)
    received = search_pb2.GetAncestorsResponse.FromString(message.SerializeToString())
    wire.assert_same(search_client.ancestors_from_proto(received, len(answer.above)), answer)
    for broken in (len(answer.above) + 1, len(answer.above) - 1):
        with pytest.raises(InputError, match=r"^offsets: expected"):
            search_client.ancestors_from_proto(received, broken)


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
    message = search_convert.result_to_proto(result)
    field = data.draw(st.sampled_from(["offsets", "index", "score", "match_level", "source", "candidate_category"]))
    getattr(message, field).data += b"\x00"
    with pytest.raises(InputError):
        search_client.result_from_proto(message, len(result.candidate_category))


@lean
@given(wire.search_results())
def test_an_index_beyond_the_union_is_refused(result):
    message = search_convert.result_to_proto(result)
    message.index.data = np.full(len(result.index), len(result.behaviors), "<i4").tobytes()
    if len(result.index):
        with pytest.raises(InputError, match=r"^index: "):
            search_client.result_from_proto(message, len(result.candidate_category))


@lean
@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read_but_never_breaks(data):
    for message_type, read in (
        (search_pb2.SearchRequest, search_convert.request_from_proto),
        (search_pb2.GetAncestorsRequest, search_convert.categories_from_proto),
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
    item = search_client.request_to_proto(request).candidates.item
    for module, pb, wrap in (
        (search_convert, search_pb2, search_pb2.SearchRequest),
        (ranking_convert, ranking_pb2, ranking_pb2.RankRequest),
    ):
        column = pb.Column(dtype=item.dtype, data=item.data)
        got = module.request_from_proto(wrap(candidates=pb.Candidates(item=column))).candidates
        wire.assert_same(got.item, candidates.item)
        assert (got.category == np.uint64(2**64 - 1)).all()
        assert len(got.covers) == 0
        assert not got.covers_offsets.any()
