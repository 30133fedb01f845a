"""Sources of events: logs that can be read again from a position, so that a store can follow them without loss."""

from store.sources.base import EventSource, SourceBatch
from store.sources.file_log import FileLogSource
from store.sources.follow import FollowReport, follow
from store.sources.kafka import KafkaSource

__all__ = ["EventSource", "FileLogSource", "FollowReport", "KafkaSource", "SourceBatch", "follow"]
