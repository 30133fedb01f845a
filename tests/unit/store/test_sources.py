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
from store.sources.base import Position
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

    def seek(self, partition, position):
        self.source.seek(partition, position)

    def poll(self, max_events, timeout_s):
        return self.source.poll(max_events, 0)

    def rest(self):
        return self.source.rest()

    def close(self):
        self.source.close()


def offset_of(position):
    return None if position is None else Position.unpack(position).offset


def take(store, source, **options):
    return follow(store, Hasty(source), stop=lambda: False, until_end=True, **options)


def test_only_complete_lines_are_read(log):
    log.write_text(line(item=1) + line(item=2)[:-5])
    source = FileLogSource(log)
    assert (source.name, source.partitions()) == (str(log.resolve()), ("0",))
    source.seek("0", None)
    batch = source.poll(10, 0)
    assert (batch.lines, batch.positions) == ([line(item=1).encode()], [0])
    assert offset_of(batch.next_position) == len(line(item=1))
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
    source.seek("0", None)
    batch = source.poll(2, 0)
    assert len(batch.lines) == 2
    source.poll(9, 0)
    source.seek("0", batch.next_position)
    assert source.poll(9, 0).lines == [text.encode() for text in lines[2:]]
    source.close()


def test_a_line_without_end_is_cut_and_passed_over(log):
    log.write_bytes(line(item=1).encode() + b"x" * (3 * MAX_LINE_BYTES) + b"\n" + line(item=2).encode())
    source = FileLogSource(log)
    source.seek("0", None)
    batch = source.poll(10, 0)
    assert [len(text) for text in batch.lines] == [len(line(item=1)), MAX_LINE_BYTES, len(line(item=2))]
    assert offset_of(batch.next_position) == log.stat().st_size
    log.write_bytes(b"x" * (2 * MAX_LINE_BYTES))
    source.seek("0", None)
    assert source.poll(10, 0) is None
    assert len(source.rest().lines[0]) == MAX_LINE_BYTES
    source.close()


def follow_path(store, path, name=None):
    source = FileLogSource(path, name)
    try:
        return take(store, source)
    finally:
        source.close()


def test_logs_of_one_name_in_two_folders_are_two_logs(store, tmp_path):
    for day, count in (("29", 100), ("30", 150)):
        (tmp_path / day).mkdir()
        (tmp_path / day / "events.jsonl").write_text("".join(line(item=int(day) * 1000 + at) for at in range(count)))
    assert follow_path(store, tmp_path / "29" / "events.jsonl").num_accepted == 100
    assert follow_path(store, tmp_path / "30" / "events.jsonl").num_accepted == 150


def test_a_path_that_another_file_has_taken_over_between_two_runs(store, log):
    log.write_text("".join(line(item=100 + at) for at in range(50)))
    follow_path(store, log)
    old = log.rename(log.with_suffix(".1"))
    with old.open("a") as file:
        file.write(line(item=150))
    # Lines of equal length: one ends where the position is.
    log.write_text("".join(line(item=200 + at) for at in range(60)))
    with pytest.raises(InputError, match=r"is not the file that was taken in up to byte \d+"):
        follow_path(store, log)
    assert follow_path(store, old, str(log.resolve())).num_accepted == 1
    assert follow_path(store, log, "the next").num_accepted == 60


@pytest.mark.parametrize("new_lines", [0, 50, 60])
def test_a_file_that_is_cut_and_written_anew_under_a_running_follower(log, new_lines):
    log.write_text("".join(line(item=100 + at) for at in range(50)))
    source = FileLogSource(log)
    source.seek("0", None)
    assert len(source.poll(99, 0).lines) == 50
    with log.open("r+") as file:
        file.truncate(0)
        file.write("".join(line(item=200 + at) for at in range(new_lines)))
    with pytest.raises(InputError, match="it was cut, written anew or replaced"):
        source.poll(99, 0)
    source.close()


def test_a_file_that_is_moved_away_under_a_running_follower(log):
    log.write_text(line(item=1))
    source = FileLogSource(log)
    source.seek("0", None)
    assert len(source.poll(99, 0).lines) == 1
    old = log.rename(log.with_suffix(".1"))
    assert source.poll(99, 0) is None
    with old.open("a") as file:
        file.write(line(item=2))
    log.write_text(line(item=3))
    assert [json.loads(text)["item"] for text in source.poll(99, 0).lines] == [2]  # the old one to its end
    with pytest.raises(InputError, match="another file has taken its place"):
        source.poll(99, 0)
    source.close()
    with pytest.raises(StoreIOError, match="cannot open the log"):
        FileLogSource(log / "no")


def test_a_last_event_without_a_line_end_is_taken_where_the_log_has_ended(store, log):
    log.write_text(line(item=1) + line(item=2)[:-1])
    report = follow_path(store, log)
    assert (report.num_accepted, report.num_left_bytes) == (2, 0)
    with log.open("a") as file:
        file.write("\n" + line(item=3) + '{"user": 1, "it')
    report = follow_path(store, log)
    assert (report.num_accepted, report.num_duplicates, report.num_refused) == (1, 0, 0)
    assert report.num_left_bytes == len('{"user": 1, "it')
    with log.open("a") as file:
        file.write('em": 4, "domain": "ads", "action": "click", "timestamp_ms": 12}\n')
    assert follow_path(store, log).num_accepted == 1
    assert store.items() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["n" * 600, "\udce9"])
def test_a_name_that_can_be_none_is_refused_before_anything_is_read(store, log, name):
    log.write_text(line(item=1))
    with pytest.raises(InputError, match="name: "):
        follow_path(store, log, name)
    with pytest.raises(InputError, match="name: "):
        store.append_from(name, parse_rows([]), b"")
    assert store.items() == []


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
    assert offset_of(store.offset(f"{log.resolve()}/0")) == log.stat().st_size


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
    assert all(letter["source"] == source.name for letter in kept)
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


@pytest.mark.parametrize("stored", [b"x", b"17", b"{}", b'{"offset": -1, "mark": ""}', b'{"offset": 1.5, "mark": ""}'])
def test_a_stored_position_that_is_none(store, log, stored):
    log.write_text(line(item=1))
    source = FileLogSource(log)
    store.append_from(f"{source.name}/0", parse_rows([]), stored)
    with pytest.raises(InputError, match=r"the stored position .* is none"):
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
        self.first = 0

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
            start = self.at.get(partition, len(lines))
            if start > len(lines) or start < self.first:
                return [self.Message(partition, start, None, "offset out of range")]
            found = lines[start : start + num_messages - len(out)]
            out += [self.Message(partition, start + at, value) for at, value in enumerate(found)]
            self.at[partition] = start + len(found)
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
    assert [offset_of(store.offset(f"kafka:clicks/{number}")) for number in (0, 1)] == [5, 2]
    kafka.topics["clicks"][1].append(line(item=10).encode())
    again = KafkaSource("clicks", {})
    assert take(store, again).num_accepted == 1
    assert store.items() == [0, 1, 2, 3, 4, 9, 10]
    again.close()
    assert kafka.settings["enable.auto.commit"] is False
    assert kafka.settings["group.id"] == "lookback"


def test_offsets_that_a_topic_no_longer_has(kafka):
    source = KafkaSource("clicks", {})
    source.seek("0", Position(offset=99, mark="").pack())
    source.seek("1", None)
    with pytest.raises(StoreIOError, match="partition 0: offset out of range"):
        source.poll(10, 0)


def test_a_topic_that_was_made_anew_is_noticed(store, kafka):
    take(store, KafkaSource("clicks", {}))
    kafka.topics["clicks"] = {0: [line(item=100 + at).encode() for at in range(9)], 1: kafka.topics["clicks"][1]}
    with pytest.raises(InputError, match="message 4 of partition 0 is not the one that was taken in"):
        take(store, KafkaSource("clicks", {}))
    assert take(store, KafkaSource("clicks", {}, "anew")).num_accepted == 9


def test_a_topic_whose_last_message_has_expired_goes_on(store, kafka):
    take(store, KafkaSource("clicks", {}))
    kafka.topics["clicks"] = {0: [*[None] * 5, line(item=50).encode()], 1: [None, None]}
    kafka.first = 2  # of both partitions, so that message 1 of partition 1 is gone
    kafka.topics["clicks"][0][4] = line(item=4).encode()
    report = take(store, KafkaSource("clicks", {}))
    assert (report.num_accepted, report.num_duplicates) == (1, 0)


def test_partitions_that_a_topic_gets_later_are_read(store, kafka, monkeypatch):
    monkeypatch.setattr(sys.modules["store.sources.follow"], "_LOOK_S", 0.0)
    asked = []

    def stop():
        asked.append(None)
        if len(asked) == 4:
            kafka.topics["clicks"] = {**kafka.topics["clicks"], 7: [line(item=70).encode()]}
            kafka.broken = True  # the first look for it fails, and stops nothing
        kafka.broken &= len(asked) < 6
        return len(asked) > 8

    report = follow(store, Hasty(KafkaSource("clicks", {})), stop=stop)
    assert report.num_accepted == 7
    assert offset_of(store.offset("kafka:clicks/7")) == 1


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
