"""Messages of `lookback.search.v1` and the contract of `store.retrieval`, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protos.lookback.search.v1 import search_pb2 as pb
from serving.wire.columns import (
    candidates_from_proto,
    decode_column,
    decode_columns,
    encode_column,
    fields_from_proto,
    put_candidates,
    put_columns,
    put_fields,
    same_fields,
)
from serving.wire.statistics import put_statistics, statistics_from_proto
from store.errors import InputError
from store.lists import Lists, check_offsets
from store.retrieval import WHOLE_HISTORY, Ancestors, BehaviorColumns, Names, SearchRequest, SearchResult, TopK
from store.types import Vocabulary

if TYPE_CHECKING:
    from store.types import I32, I64, U64

_BEHAVIORS: dict[str, type[np.generic]] = {
    "item": np.uint64,
    "category": np.uint64,
    "timestamp_ms": np.int64,
    "domain": np.uint8,
    "action": np.uint8,
    "scene": np.uint16,
}
_PAIRS: dict[str, type[np.generic]] = {"score": np.float32, "match_level": np.uint8, "source": np.uint8}
"""What is said of each retrieved behavior of each candidate."""
_LISTS = ("offsets", "index", *_PAIRS, "same_as", "candidate_category")
_ABOUT = (
    "num_newest",
    "num_behaviors",
    "num_unknown_items",
    "store_generation",
    "index_generation",
    "index_model",
    "delta_sequence",
    "configuration",
)
"""What is said of a whole answer."""
_NO_LIMITS = TopK()


def request_to_proto(request: SearchRequest, request_id: str = "") -> pb.SearchRequest:
    """Gives the message of a search request."""
    message = pb.SearchRequest(
        user=request.user,
        as_of_ms=request.as_of_ms,
        request_id=request_id,
        newest=request.newest,
        with_names=request.with_names,
        behavior_fields=request.behavior_fields,
        delta_sequence=request.delta_sequence,
    )
    put_candidates(message.candidates, request.candidates)
    if request.top_k != _NO_LIMITS:
        top_k = request.top_k
        message.top_k.MergeFrom(pb.TopK(hard=top_k.hard, soft=top_k.soft, recent=top_k.recent))
    return message


def request_from_proto(message: pb.SearchRequest) -> SearchRequest:
    """Gives the request a message holds. Sizes and times are left for the searcher to judge.

    Raises:
        InputError: A column of another type or length than the contract's, or offsets that descend; names the field.
    """
    return SearchRequest(
        user=message.user,
        as_of_ms=message.as_of_ms,
        candidates=candidates_from_proto(message.candidates),
        top_k=_top_k_from_proto(message.top_k) if message.HasField("top_k") else _NO_LIMITS,
        newest=min(message.newest, WHOLE_HISTORY - 1),  # a message asks for a number, which the limits lower
        with_names=message.with_names,
        behavior_fields=tuple(message.behavior_fields),
        delta_sequence=message.delta_sequence if message.HasField("delta_sequence") else None,
    )


def _top_k_from_proto(message: pb.TopK) -> TopK:
    return TopK(
        hard=message.hard if message.HasField("hard") else None,
        soft=message.soft if message.HasField("soft") else None,
        recent=message.recent if message.HasField("recent") else None,
    )


def result_to_proto(result: SearchResult) -> pb.SearchResponse:
    """Gives the message of a search result."""
    message = pb.SearchResponse(**same_fields(result, _ABOUT))
    put_behaviors(message.behaviors, result.behaviors)
    put_vocabulary(message.vocabulary, result.vocabulary)
    put_columns(message, result, _LISTS)
    put_statistics(message.statistics, result.statistics)
    put_fields(message.candidate_fields, result.candidate_fields)
    put_fields(message.user_fields, result.user_fields)
    put_fields(message.behavior_fields, result.behavior_fields)
    if result.names is not None:
        _put_names(message.names, result.names)
    return message


def result_from_proto(message: pb.SearchResponse, num_candidates: int) -> SearchResult:
    """Gives the search result a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    index = decode_column("index", message.index, np.int32)
    pairs = len(index)
    offsets = decode_column("offsets", message.offsets, np.int64, num_candidates + 1)
    check_offsets("offsets", offsets, num_candidates, pairs)
    behaviors = behaviors_from_proto(message.behaviors)
    union = len(behaviors)
    rows = index.view(np.uint32)  # of these, a negative one is a large one
    if pairs and rows[rows.argmax()] >= union:
        raise InputError(f"index: must lie in 0 .. {union - 1}")
    if message.num_newest > union:
        raise InputError(f"num_newest: {message.num_newest} of {union} behaviors")
    return SearchResult(
        behaviors=behaviors,
        vocabulary=vocabulary_from_proto(message.vocabulary),
        offsets=offsets,
        index=index,
        **decode_columns("", message, _PAIRS, pairs),
        **same_fields(message, _ABOUT),
        same_as=_same_as(message, offsets),
        statistics=statistics_from_proto(message.statistics, num_candidates),
        candidate_category=decode_column("candidate_category", message.candidate_category, np.uint64, num_candidates),
        candidate_fields=fields_from_proto("candidate", message.candidate_fields, num_candidates),
        user_fields=fields_from_proto("user", message.user_fields, 1),
        behavior_fields=fields_from_proto("behavior", message.behavior_fields, union, lists=False),
        names=_names_from_proto(message.names, union, num_candidates) if message.HasField("names") else None,
    )


def result_from_bytes(data: bytes, num_candidates: int) -> SearchResult:
    """Gives the search result that a serialised message holds; errors as `result_from_proto`."""
    return result_from_proto(pb.SearchResponse.FromString(data), num_candidates)


def _same_as(message: pb.SearchResponse, offsets: I64) -> I32:
    itself = np.arange(len(offsets) - 1, dtype=np.int32)
    if not message.HasField("same_as"):  # a search stage of an earlier version
        return itself
    same_as: I32 = decode_column("same_as", message.same_as, np.int32, len(itself))
    if not np.count_nonzero(same_as != itself):
        return same_as
    if np.count_nonzero(same_as.view(np.uint32) > itself.view(np.uint32)) or np.any(same_as[same_as] != same_as):
        raise InputError("same_as: must name the first candidate of its list, before this one or itself")
    lengths = np.diff(offsets)
    if np.any(lengths[same_as] != lengths):
        raise InputError("same_as: must name a candidate with a list of the same length")
    return same_as


def put_behaviors(message: pb.Behaviors, behaviors: BehaviorColumns) -> None:
    """Writes behaviors into their message, in the order they come in."""
    put_columns(message, behaviors, _BEHAVIORS)


def behaviors_from_proto(message: pb.Behaviors) -> BehaviorColumns:
    """Gives the behaviors a message holds.

    Raises:
        InputError: The columns are not of one length, or of the wrong type; names the field.
    """
    return BehaviorColumns(**decode_columns("behaviors.", message, _BEHAVIORS))


def put_vocabulary(message: pb.Vocabulary, vocabulary: Vocabulary) -> None:
    """Writes a vocabulary into its message."""
    message.domains.extend(vocabulary.domains)
    message.actions.extend(vocabulary.actions)
    message.scenes.extend(vocabulary.scenes)


def vocabulary_from_proto(message: pb.Vocabulary) -> Vocabulary:
    """Gives the vocabulary a message holds."""
    return Vocabulary(domains=tuple(message.domains), actions=tuple(message.actions), scenes=tuple(message.scenes))


def _put_names(message: pb.Names, names: Names) -> None:
    message.SetInParent()  # names of nothing are names, too
    message.behavior_items.extend(names.behavior_items)
    message.behavior_categories.extend(names.behavior_categories)
    message.candidates.extend(names.candidates)
    for field, values in names.behavior_fields.items():
        message.behavior_fields.add(field=field, values=values)


def _names_from_proto(message: pb.Names, num_behaviors: int, num_candidates: int) -> Names:
    for field, names, length in (
        ("names.behavior_items", message.behavior_items, num_behaviors),
        ("names.behavior_categories", message.behavior_categories, num_behaviors),
        ("names.candidates", message.candidates, num_candidates),
        *((f"names.behavior_fields[{each.field!r}]", each.values, num_behaviors) for each in message.behavior_fields),
    ):
        if len(names) != length:
            raise InputError(f"{field}: expected {length} names, got {len(names)}")
    return Names(
        behavior_items=tuple(message.behavior_items),
        behavior_categories=tuple(message.behavior_categories),
        candidates=tuple(message.candidates),
        behavior_fields={each.field: tuple(each.values) for each in message.behavior_fields},
    )


def categories_to_proto(categories: U64, request_id: str = "") -> pb.GetAncestorsRequest:
    """Gives the message that asks what stands above categories."""
    return pb.GetAncestorsRequest(categories=encode_column(categories), request_id=request_id)


def categories_from_proto(message: pb.GetAncestorsRequest) -> U64:
    """Gives the categories that a message asks about; how many is left for the searcher to judge.

    Raises:
        InputError: The column is of another type; names the field.
    """
    categories: U64 = decode_column("categories", message.categories, np.uint64)
    return categories


def ancestors_to_proto(ancestors: Ancestors) -> pb.GetAncestorsResponse:
    """Gives the message of what stands above some categories."""
    return pb.GetAncestorsResponse(
        ancestors=encode_column(ancestors.above.values),
        offsets=encode_column(ancestors.above.offsets),
        store_generation=ancestors.store_generation,
    )


def ancestors_from_proto(message: pb.GetAncestorsResponse, num_categories: int) -> Ancestors:
    """Gives the ancestors a message holds.

    Raises:
        InputError: The message breaks the contract; names the field.
    """
    values = decode_column("ancestors", message.ancestors, np.uint64)
    offsets = decode_column("offsets", message.offsets, np.int64, num_categories + 1)
    check_offsets("offsets", offsets, num_categories, len(values))
    return Ancestors(above=Lists(values=values, offsets=offsets), store_generation=message.store_generation)
