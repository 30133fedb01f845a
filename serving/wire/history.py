"""Pages of a user's history, of `lookback.search.v1`, both ways."""

from __future__ import annotations

from protos.lookback.search.v1 import search_pb2 as pb
from serving.wire.columns import fields_from_proto, put_fields
from serving.wire.search import behaviors_from_proto, put_behaviors, put_vocabulary, vocabulary_from_proto
from store.retrieval import HistoryPage


def page_to_proto(page: HistoryPage) -> pb.GetHistoryResponse:
    """Gives the message of a page."""
    message = pb.GetHistoryResponse(next_page_token=page.next_page_token, store_generation=page.store_generation)
    put_behaviors(message.behaviors, page.behaviors)
    put_vocabulary(message.vocabulary, page.vocabulary)
    put_fields(message.behavior_fields, page.behavior_fields)
    return message


def page_from_proto(message: pb.GetHistoryResponse) -> HistoryPage:
    """Gives the page a message holds.

    Raises:
        InputError: The columns are not of one length, or of the wrong type; names the field.
    """
    behaviors = behaviors_from_proto(message.behaviors)
    return HistoryPage(
        behaviors=behaviors,
        behavior_fields=fields_from_proto("behavior", message.behavior_fields, len(behaviors), lists=False),
        vocabulary=vocabulary_from_proto(message.vocabulary),
        next_page_token=message.next_page_token,
        store_generation=message.store_generation,
    )
