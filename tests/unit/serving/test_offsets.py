"""Every column of offsets that a message has is checked where it is read: compiled loops trust them."""

from __future__ import annotations

import numpy as np
import pytest

from protos.lookback.columns.v1 import columns_pb2
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from serving.wire.columns import candidates_from_proto, decode_field, encode_column
from serving.wire.search import ancestors_from_proto, result_from_proto
from store.errors import InputError
from store.lists import check_offsets

IDS = encode_column(np.array([7, 8], np.uint64))
TWO_EMPTY_LISTS = encode_column(np.zeros(3, np.int64))


def read_candidates(**lists):
    none = {"covers": encode_column(np.empty(0, np.uint64)), "covers_offsets": TWO_EMPTY_LISTS}
    candidates_from_proto(columns_pb2.Candidates(item=IDS, category=IDS, **(none | lists)))


READ = {
    "Candidates.covers_offsets": lambda offsets: read_candidates(covers=IDS, covers_offsets=offsets),
    "Candidates.more_offsets": lambda offsets: read_candidates(more_categories=IDS, more_offsets=offsets),
    "NamedColumn.offsets": lambda offsets: decode_field("f", columns_pb2.NamedColumn(values=IDS, offsets=offsets), 2),
    "SearchResponse.offsets": lambda offsets: result_from_proto(
        search_pb2.SearchResponse(index=encode_column(np.zeros(2, np.int32)), offsets=offsets), 2
    ),
    "GetAncestorsResponse.offsets": lambda offsets: ancestors_from_proto(
        search_pb2.GetAncestorsResponse(ancestors=IDS, offsets=offsets), 2
    ),
}
"""Reads a message of two lists over two values with the offsets given."""

FAULTS = {
    "too few": [0, 2],
    "they descend": [0, 3, 2],
    "past the end": [0, 1, 5],
    "short of the end": [0, 1, 1],
    "the first is not 0": [1, 1, 2],
}


def test_no_column_of_offsets_is_forgotten():
    messages = [
        message
        for file in (columns_pb2, search_pb2, ranking_pb2)
        for message in file.DESCRIPTOR.message_types_by_name.values()
    ]
    declared = {
        f"{message.name}.{name}" for message in messages for name in message.fields_by_name if name.endswith("offsets")
    }
    assert declared == set(READ)


@pytest.mark.parametrize("column", READ)
@pytest.mark.parametrize("fault", FAULTS)
def test_bad_offsets_are_refused_by_name(column, fault):
    with pytest.raises(InputError) as caught:
        READ[column](encode_column(np.array(FAULTS[fault], np.int64)))
    assert str(caught.value).split(":")[0].endswith(column.split(".")[1])


@pytest.mark.parametrize("offsets", [[0, 1, 0], [0, -1, 0], [1, 1, 0]])
def test_offsets_over_nothing_are_checked_too(offsets):
    check_offsets("lists", np.zeros(3, np.int64), 2, 0)
    with pytest.raises(InputError, match=r"^lists: must "):
        check_offsets("lists", np.array(offsets, np.int64), 2, 0)
