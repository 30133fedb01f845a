"""A Kafka topic as a source, through `confluent-kafka` (the extra `kafka`)."""

from __future__ import annotations

import importlib
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import InputError, StoreIOError
from store.sources.base import SourceBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_METADATA_TIMEOUT_S = 10.0


class KafkaSource:
    """Reads all partitions of a topic, from offsets that the store keeps: the topic's own groups are not used."""

    def __init__(self, topic: str, config: Mapping[str, str]) -> None:
        """Connects.

        Args:
            topic: Name of the topic; its messages are JSON objects.
            config: Settings of librdkafka; `bootstrap.servers` at least.

        Raises:
            InputError: `confluent-kafka` is not installed; the message says how to.
            StoreIOError: The settings are refused.
        """
        try:
            self._kafka: Any = importlib.import_module("confluent_kafka")
        except ImportError as exc:
            raise InputError("kafka: confluent-kafka is not installed: pip install 'lookback[kafka]'") from exc
        self._topic = topic
        self._offsets: dict[int, int] = {}
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

    @property
    def name(self) -> str:
        """Under which the offsets are stored."""
        return f"kafka:{self._topic}"

    def partitions(self) -> list[str]:
        """Gives the partitions that the topic has now."""
        with self._translate():
            metadata = self._consumer.list_topics(self._topic, timeout=_METADATA_TIMEOUT_S).topics[self._topic]
        if metadata.error is not None:
            raise StoreIOError(f"{self.name}: {metadata.error}")
        return [str(number) for number in sorted(metadata.partitions)]

    def seek(self, partition: str, offset: int) -> None:
        """Goes to a position; see `EventSource.seek`. That it is gone shows at the next `poll`."""
        self._offsets[int(partition)] = offset
        self._ready.clear()
        with self._translate():
            self._consumer.assign(
                [
                    self._kafka.TopicPartition(self._topic, number, at or self._kafka.OFFSET_BEGINNING)
                    for number, at in sorted(self._offsets.items())
                ]
            )

    def poll(self, max_events: int, timeout_s: float) -> SourceBatch | None:
        """Gives the next messages of one partition; see `EventSource.poll`."""
        if not self._ready:
            with self._translate():
                messages = self._consumer.consume(num_messages=max_events, timeout=timeout_s)
            by_partition: dict[int, list[Any]] = {}
            for message in messages:
                if message.error() is not None:
                    raise StoreIOError(f"{self.name}: partition {message.partition()}: {message.error()}")
                by_partition.setdefault(message.partition(), []).append(message)
            self._ready.extend(_batch(number, found) for number, found in sorted(by_partition.items()))
        if not self._ready:
            return None
        batch = self._ready.popleft()
        self._offsets[int(batch.partition)] = batch.next_offset
        return batch

    def close(self) -> None:
        """Leaves the cluster; twice does nothing."""
        with self._translate():
            self._consumer.close()

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
        next_offset=offsets[-1] + 1,
    )
