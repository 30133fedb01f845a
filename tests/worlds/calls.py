"""Messages of `Append` and `GetHistory` as numbers: requests made of them, answers read back."""

from __future__ import annotations

import numpy as np

from protos.lookback.search.v1 import search_pb2
from serving.wire.columns import encode_column


def column(values, dtype):
    return encode_column(np.array(values, dtype))


def events(users, items, times, *, domain="content", action="buy", **more):
    count = len(users)
    return search_pb2.AppendRequest(
        user=column(users, "<u8"),
        item=column(items, "<u8"),
        timestamp_ms=column(times, "<i8"),
        domains=[domain] * count,
        actions=[action] * count,
        **more,
    )


def history_of(stub, user, **fields):
    answer = stub.GetHistory(search_pb2.GetHistoryRequest(user=user, **fields), timeout=10)
    times = np.frombuffer(answer.behaviors.timestamp_ms.data, "<i8").tolist()
    return times, np.frombuffer(answer.behaviors.item.data, "<u8").tolist(), answer.next_page_token


def results(answer):
    return np.frombuffer(answer.result.data, np.uint8).tolist()
