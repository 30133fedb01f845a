import json
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest

from store.dataset.json_rows import parse_rows
from store.delta.batch import AppendResult
from store.delta.writer import DeltaWriter
from store.errors import InputError, StoreIOError
from store.sources import FileLogSource, KafkaSource, follow
from store.sources.file_log import MAX_LINE_BYTES
from tests.worlds.appends import NOW_MS, EmptyBase

GOOD = {"user": "anna", "item": 5, "domain": "ads", "action": "click", "timestamp_ms": 12}


def line(**changes):
    return json.dumps({**GOOD, **changes}) + "\n"


class Store:
    """A delta as `follow` wants it."""

    def __init__(self, root, **base):
        self.writer = DeltaWriter(root, now_ms=lambda: NOW_MS)
        self.base = EmptyBase(**base)

    def append_from(self, source, batch, offset) -> AppendResult:
        [result] = self.writer.append([batch], self.base, {source: offset})
        return result

    def offset(self, source):
        with self.writer.delta.begin() as transaction:
            return transaction.offset(source)

    def items(self):
        with self.writer.delta.begin() as transaction:
            return sorted(item for _, rows in transaction.scan() for item in rows.item.tolist())


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    store = Store(tmp_path / "store")
    yield store
    store.writer.close()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


class Hasty:
    """A source that never waits."""

    def __init__(self, source):
        self.source = source
        self.name = source.name

    def partitions(self):
        return self.source.partitions()

    def seek(self, partition, offset):
        self.source.seek(partition, offset)

    def poll(self, max_events, timeout_s):
        return self.source.poll(max_events, 0)

    def close(self):
        self.source.close()


def take(store, source, **options):
    return follow(store, Hasty(source), stop=lambda: False, until_end=True, **options)


def test_only_complete_lines_are_read(log):
    log.write_text(line(item=1) + line(item=2)[:-5])
    source = FileLogSource(log)
    assert (source.name, source.partitions()) == ("events.jsonl", ("0",))
    source.seek("0", 0)
    batch = source.poll(10, 0)
    assert (batch.lines, batch.positions, batch.next_offset) == ([line(item=1).encode()], [0], len(line(item=1)))
    assert source.poll(10, 0.01) is None
    with log.open("a") as file:
        file.write(line(item=2)[-5:] + line(item=3))
    assert [json.loads(text)["item"] for text in source.poll(10, 0).lines] == [2, 3]
    source.close()
    source.close()


def test_a_limit_and_a_seek(log):
    lines = [line(item=at) for at in range(5)]
    log.write_text("".join(lines))
    source = FileLogSource(log, "clicks")
    assert source.name == "clicks"
    source.seek("0", 0)
    batch = source.poll(2, 0)
    assert len(batch.lines) == 2
    source.seek("0", batch.positions[1])
    assert source.poll(9, 0).lines == [text.encode() for text in lines[1:]]
    source.close()


def test_a_line_without_end_is_cut_and_passed_over(log):
    log.write_bytes(line(item=1).encode() + b"x" * (3 * MAX_LINE_BYTES) + b"\n" + line(item=2).encode())
    source = FileLogSource(log)
    source.seek("0", 0)
    batch = source.poll(10, 0)
    assert [len(text) for text in batch.lines] == [len(line(item=1)), MAX_LINE_BYTES, len(line(item=2))]
    assert batch.next_offset == log.stat().st_size
    log.write_bytes(b"x" * (2 * MAX_LINE_BYTES))
    source.seek("0", 0)
    assert source.poll(10, 0) is None
    source.close()


def test_a_log_that_is_another_one_is_noticed(log):
    log.write_text(line(item=1) * 3)
    source = FileLogSource(log)
    with pytest.raises(InputError, match="no line ends at byte 5"):
        source.seek("0", 5)
    with pytest.raises(InputError, match="no line ends at byte 9999"):
        source.seek("0", 9999)
    source.seek("0", 2 * len(line(item=1)))
    log.write_text(line(item=1))
    with pytest.raises(InputError, match="it was cut"):
        source.poll(10, 0)
    source.close()
    with pytest.raises(StoreIOError, match="cannot open the log"):
        FileLogSource(log / "no")


def test_following_takes_everything_once(store, log):
    log.write_text("".join(line(item=at) for at in range(25)))
    source = FileLogSource(log)
    report = take(store, source, max_events=10)
    assert (report.num_accepted, report.num_duplicates, report.num_refused) == (25, 0, 0)
    with log.open("a") as file:
        file.write(line(item=3) + line(item=25))
    report = take(store, source)
    assert (report.num_accepted, report.num_duplicates) == (1, 1)
    source.close()
    assert store.items() == list(range(26))
    assert store.offset("events.jsonl/0") == str(log.stat().st_size).encode()


def test_whatever_is_interrupted_goes_on_where_it_was(store, log):
    log.write_text("".join(line(item=at) for at in range(30)))

    class KilledError(Exception):
        pass

    class Fragile:
        offset = store.offset
        count = num_accepted = 0

        def append_from(self, source, batch, offset):
            self.count += 1
            if self.count % 2 == 0:
                raise KilledError
            result = store.append_from(source, batch, offset)
            self.num_accepted += result.num_accepted
            return result

    fragile = Fragile()
    for _ in range(20):
        source = FileLogSource(log)
        with suppress(KilledError):
            take(fragile, source, max_events=7)
        source.close()
    assert fragile.num_accepted == 30
    assert store.items() == list(range(30))


def test_a_bad_line_stops_nothing_and_is_kept_aside(store, log, tmp_path):
    store.writer.delete_user(7)
    bad = ["{\n", "[1]\n", "\n", "  \n", line(item=None), line(user=7), "\xff\n", "[" * 100_000 + "\n"]
    log.write_bytes((line(item=1) + "".join(bad) + line(item=2)).encode("latin-1"))
    letters = tmp_path / "dead.jsonl"
    source = FileLogSource(log)
    report = take(store, source, dead_letters=letters)
    assert (report.num_accepted, report.num_refused) == (2, 6)
    assert store.items() == [1, 2]
    kept = [json.loads(text) for text in letters.read_text().splitlines()]
    assert [letter["reason"].split(" (")[0] for letter in kept] == [
        "the line is no JSON",
        "the row is no JSON object",
        "item: missing",
        "the line is no JSON",
        "the line is no JSON",
        f"timestamp_ms: 12 is not after {NOW_MS}, when the user was deleted",
    ]
    assert all(letter["source"] == "events.jsonl" for letter in kept)
    assert kept[0]["line"] == "{\n"
    assert "line" not in kept[-1]
    assert [problem.position for problem in report.problems] == sorted(letter["position"] for letter in kept)
    source.close()


def test_side_info_of_the_store(tmp_path, log):
    (tmp_path / "fields").mkdir()
    store = Store(tmp_path / "fields", fields=(("os", "id"),))
    log.write_text(line(item=1, os=5) + line(item=2, os="linux") + line(item=3, colour="red"))
    source = FileLogSource(log)
    report = take(store, source, kinds=store.base.fields)
    assert (report.num_accepted, report.num_refused) == (2, 1)
    assert report.problems[0].reason == "colour: is no column of this store's behaviors"
    source.close()
    store.writer.close()


def test_a_stored_offset_that_is_none(store, log):
    log.write_text(line(item=1))
    source = FileLogSource(log)
    store.append_from("events.jsonl/0", parse_rows([]), b"x")
    with pytest.raises(InputError, match="the stored offset b'x' of partition 0 is no number"):
        take(store, source)
    source.close()


class FakeKafka:
    """The part of `confluent_kafka` that is used, over lists of messages."""

    OFFSET_BEGINNING = -2

    class KafkaException(Exception):  # noqa: N818 - as there
        pass

    class TopicPartition:
        def __init__(self, topic, partition, offset):
            self.topic, self.partition, self.offset = topic, partition, offset

    class Message:
        def __init__(self, partition, offset, value, error=None):
            self._parts = partition, offset, value, error

        def partition(self):
            return self._parts[0]

        def offset(self):
            return self._parts[1]

        def value(self):
            return self._parts[2]

        def error(self):
            return self._parts[3]

    def __init__(self, topics):
        self.topics = topics
        self.settings = None
        self.broken = False

    def Consumer(self, settings):  # noqa: N802 - as there
        self.settings = settings
        return self

    def list_topics(self, topic, timeout):
        if self.broken:
            raise self.KafkaException("no broker")
        found = self.topics.get(topic)
        error = None if found else "unknown topic"
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions=dict.fromkeys(found or {}))})

    def assign(self, parts):
        self.at = {part.partition: 0 if part.offset == self.OFFSET_BEGINNING else part.offset for part in parts}
        self.topic = parts[0].topic

    def consume(self, num_messages, timeout):
        out = []
        for partition, lines in self.topics[self.topic].items():
            start = self.at[partition]
            if start > len(lines):
                return [self.Message(partition, start, None, "offset out of range")]
            found = lines[start : start + num_messages - len(out)]
            out += [self.Message(partition, start + at, value) for at, value in enumerate(found)]
            self.at[partition] += len(found)
        return out

    def close(self):
        pass


@pytest.fixture
def kafka(monkeypatch):
    fake = FakeKafka({"clicks": {0: [line(item=at).encode() for at in range(5)], 1: [line(item=9).encode(), None]}})
    monkeypatch.setitem(sys.modules, "confluent_kafka", fake)
    return fake


def test_a_topic_is_followed_by_partition(store, kafka):
    report = take(store, KafkaSource("clicks", {"bootstrap.servers": "here"}), max_events=4)
    assert (report.num_accepted, report.num_refused) == (6, 0)
    assert (store.offset("kafka:clicks/0"), store.offset("kafka:clicks/1")) == (b"5", b"2")
    kafka.topics["clicks"][1].append(line(item=10).encode())
    again = KafkaSource("clicks", {})
    assert take(store, again).num_accepted == 1
    assert store.items() == [0, 1, 2, 3, 4, 9, 10]
    again.close()
    assert kafka.settings["enable.auto.commit"] is False
    assert kafka.settings["group.id"] == "lookback"


def test_offsets_that_a_topic_no_longer_has(kafka):
    source = KafkaSource("clicks", {})
    source.seek("0", 99)
    source.seek("1", 0)
    with pytest.raises(StoreIOError, match="partition 0: offset out of range"):
        source.poll(10, 0)


def test_errors_of_kafka(kafka):
    with pytest.raises(StoreIOError, match="kafka:none: unknown topic"):
        KafkaSource("none", {}).partitions()
    kafka.broken = True
    with pytest.raises(StoreIOError, match="kafka:clicks: no broker"):
        KafkaSource("clicks", {}).partitions()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(InputError, match=r"pip install 'lookback\[kafka\]'"):
        KafkaSource("clicks", {})
