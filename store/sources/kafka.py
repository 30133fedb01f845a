"""A Kafka topic as a source, through `confluent-kafka` (the extra `kafka`)."""

from __future__ import annotations

import importlib
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import InputError, StoreIOError
from store.sources.base import Position, SourceBatch, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_METADATA_TIMEOUT_S = 10.0


class KafkaSource:
    """Reads all partitions of a topic, from offsets that the store keeps: the topic's own groups are not used.

    A topic may be made anew under its name. So reading goes on one message before the position, and that message must
    be the one that was taken in last, unless it has expired meanwhile.
    """

    def __init__(self, topic: str, config: Mapping[str, str], name: str | None = None) -> None:
        """Connects.

        Args:
            topic: Name of the topic; its messages are JSON objects.
            config: Settings of librdkafka; `bootstrap.servers` at least.
            name: Under which the positions are stored; None = after the topic.

        Raises:
            InputError: `confluent-kafka` is not installed; the message says how to.
            StoreIOError: The settings are refused.
        """
        try:
            self._kafka: Any = importlib.import_module("confluent_kafka")
        except ImportError as exc:
            raise InputError("kafka: confluent-kafka is not installed: pip install 'lookback[kafka]'") from exc
        self._topic = topic
        self.name = name or f"kafka:{topic}"
        """Under which the positions are stored."""
        self._offsets: dict[int, int] = {}
        self._unchecked: dict[int, Position] = {}
        """Positions whose last message is still to be compared, by partition."""
        self._ready: deque[SourceBatch] = deque()
        settings = {
            "group.id": "lookback",
            "enable.partition.eof": False,
            **config,
            # The store keeps the offsets, and an offset that the topic no longer has must not pass unnoticed.
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        with self._translate():
            self._consumer = self._kafka.Consumer(settings)

    def partitions(self) -> list[str]:
        """Gives the partitions that the topic has now."""
        with self._translate():
            metadata = self._consumer.list_topics(self._topic, timeout=_METADATA_TIMEOUT_S).topics[self._topic]
        if metadata.error is not None:
            raise StoreIOError(f"{self.name}: {metadata.error}")
        return [str(number) for number in sorted(metadata.partitions)]

    def seek(self, partition: str, position: bytes | None) -> None:
        """Goes to a position; see `EventSource.seek`. That it is gone, or another topic's, shows at the next `poll`."""
        number = int(partition)
        self._unchecked.pop(number, None)
        self._offsets[number] = 0
        if position is not None:
            known = Position.unpack(position)
            self._offsets[number] = known.offset
            if known.offset:
                self._unchecked[number] = known
        self._ready.clear()
        self._assign()

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next messages of one partition; see `EventSource.poll`."""
        until = time.monotonic() + timeout_s
        while not self._ready:
            with self._translate():
                left_s = max(until - time.monotonic(), 0.0)
                messages = self._consumer.consume(num_messages=max_events, timeout=left_s)
            if not messages:
                return None
            self._take(messages)
        batch = self._ready.popleft()
        self._offsets[int(batch.partition)] = batch.positions[-1] + 1
        return batch

    def rest(self) -> None:
        """Gives nothing: messages are whole."""

    def close(self) -> None:
        """Leaves the cluster; twice does nothing."""
        with self._translate():
            self._consumer.close()

    def _assign(self) -> None:
        parts = []
        for number, offset in sorted(self._offsets.items()):
            start = offset - 1 if number in self._unchecked else offset or self._kafka.OFFSET_BEGINNING
            parts.append(self._kafka.TopicPartition(self._topic, number, start))
        with self._translate():
            self._consumer.assign(parts)

    def _take(self, messages: list[Any]) -> None:
        failed = {message.partition(): message for message in messages if message.error() is not None}
        for number, message in failed.items():
            if self._unchecked.pop(number, None) is None:
                raise StoreIOError(f"{self.name}: partition {number}: {message.error()}")
        if failed:  # the message before the position may have expired: all again, without it
            self._assign()
            return
        by_partition: dict[int, list[Any]] = {}
        for message in messages:
            if self._is_new(message):
                by_partition.setdefault(message.partition(), []).append(message)
        self._ready.extend(_batch(number, found) for number, found in sorted(by_partition.items()))

    def _is_new(self, message: Any) -> bool:  # noqa: ANN401 (confluent-kafka has no types)
        """Gives whether a message comes behind the position; one before it is compared with what was taken in."""
        known = self._unchecked.pop(message.partition(), None)
        if known is None or message.offset() >= known.offset:
            return True
        if _mark(message) != known.mark:
            raise InputError(
                f"{self.name}: message {message.offset()} of partition {message.partition()} is not the one that was "
                "taken in: the topic was made anew; follow it under another --name"
            )
        return False

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except self._kafka.KafkaException as exc:
            raise StoreIOError(f"{self.name}: {exc}") from exc


def _batch(partition: int, messages: list[Any]) -> SourceBatch:
    offsets = [message.offset() for message in messages]
    return SourceBatch(
        partition=str(partition),
        # A message without a value is Kafka's way to take back an older one of its key: nothing for a log of events.
        lines=[message.value() or b"" for message in messages],
        positions=offsets,
        next_position=Position(offset=offsets[-1] + 1, mark=_mark(messages[-1])).pack(),
    )


def _mark(message: Any) -> str:  # noqa: ANN401
    return mark_of(message.value() or b"")
