import subprocess
import sys

import numpy as np
import pytest

from store.delta.batch import ACCEPTED, DUPLICATE, REFUSED
from store.delta.delta import Delta
from store.delta.layout import META_FORMAT, META_SEQUENCE, NUMBER, Tombstone
from store.delta.writer import DeltaWriter
from store.errors import CorruptGenerationError, GenerationError, LockedError, MapFullError, StoreClosedError
from store.types import NO_ID, Vocabulary
from tests.worlds.appends import NOW_MS, EmptyBase, batch, event


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(tmp_path, clock):
    with DeltaWriter(tmp_path, now_ms=clock, max_skew_ms=1000, map_size_bytes=1 << 26) as writer:
        yield writer


def append(writer, *events, base=None, **more):
    [result] = writer.append([batch(*events, **more)], base or EmptyBase())
    return result


def items(root, user=1, after=0):
    with Delta.open(root).begin() as transaction:
        return transaction.rows(user, after).item.tolist()


def test_the_first_of_equal_events_stays(writer, tmp_path):
    result = append(writer, event(1, 2, 50), event(1, 2, 50), event(1, 2, 51), event(1, 3, 50), event(2, 2, 50))
    assert result.result.tolist() == [ACCEPTED, DUPLICATE, ACCEPTED, ACCEPTED, ACCEPTED]
    assert (result.num_accepted, result.num_duplicates, result.num_refused, result.sequence) == (4, 1, 0, 4)
    again = append(writer, event(1, 2, 50, domain="content", scene="top", category=9), event(1, 2, 50, action="view"))
    assert again.result.tolist() == [DUPLICATE, ACCEPTED]
    assert again.sequence == 5
    assert items(tmp_path) == [2, 2, 3, 2]


def test_an_event_id_is_what_counts_where_there_is_one(writer):
    result = append(writer, event(1, 2, 50, key=7), event(1, 3, 60, key=7), event(2, 2, 50, key=7), event(1, 2, 50))
    assert result.result.tolist() == [ACCEPTED, DUPLICATE, ACCEPTED, ACCEPTED]
    assert append(writer, event(1, 9, 9, key=7), event(1, 2, 50), event(1, 2, 50, key=0)).result.tolist() == [2, 2, 1]


def test_batches_of_one_transaction_count_in_their_order(writer):
    first, second, empty = writer.append(
        [batch(event(1, 2, 50), event(user=NO_ID)), batch(event(1, 2, 50), event(1, 4, 50)), batch()], EmptyBase()
    )
    assert first.result.tolist() == [ACCEPTED, REFUSED]
    assert first.reasons == {1: "user: 2**64 - 1 is reserved and no user"}
    assert second.result.tolist() == [DUPLICATE, ACCEPTED]
    assert second.reasons == {}
    assert (len(empty.result), empty.sequence) == (0, 2)


def test_events_of_the_generation_are_duplicates(writer):
    base = EmptyBase(held={(1, 2), (3, 4)})
    result = append(writer, event(3, 4), event(1, 2), event(1, 5), event(1, 5), event(3, 4, key=1), base=base)
    assert result.result.tolist() == [DUPLICATE, DUPLICATE, ACCEPTED, DUPLICATE, DUPLICATE]
    users = [user for user, _ in base.asked]
    assert sorted(base.asked) == [(1, 2), (1, 5), (3, 4), (3, 4)]
    assert users in ([1, 1, 3, 3], [3, 3, 1, 1])


def test_what_was_accepted_is_still_known_after_opening_again(writer, tmp_path, clock):
    append(writer, event(1, 2, 50), event(1, 3, key=9))
    writer.close()
    with DeltaWriter(tmp_path, now_ms=clock) as again:
        assert append(again, event(1, 2, 50), event(1, 9, key=9), event(1, 4)).result.tolist() == [2, 2, 1]


def test_equal_events_are_found_in_every_segment(writer, tmp_path):
    numbers = (0, 65_534, 131_071, 9 << 16)
    for start in numbers:
        with writer.delta.environment.begin(writer.delta.databases.meta, write=True) as transaction:
            transaction.put(META_SEQUENCE, NUMBER.pack(start))
        assert append(writer, event(1, start), event(2, start, key=start), event(3, start)).num_accepted == 3
    many = [event(1, start) for start in numbers] + [event(2, 5, key=start) for start in numbers]
    assert append(writer, *many, event(4, 4)).result.tolist() == [DUPLICATE] * 8 + [ACCEPTED]
    assert items(tmp_path, 1) == items(tmp_path, 3) == list(numbers)


def test_an_event_may_be_as_far_ahead_as_is_allowed(writer):
    assert append(writer, event(1, 5, NOW_MS + 1000), event(1, 6, NOW_MS + 1001)).result.tolist() == [ACCEPTED, REFUSED]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (event(user=NO_ID), "user: 2**64 - 1 is reserved and no user"),
        (event(item=NO_ID), "item: 2**64 - 1 is reserved and no item"),
        (event(time=-1), "timestamp_ms: -1 is outside 0 .. 253402300799999 (milliseconds UTC)"),
        (event(time=2**60), "timestamp_ms: 1152921504606846976 is outside"),
        (event(time=NOW_MS + 1001), "is 1001 ms ahead of this machine's clock, more than the 1000 ms allowed"),
        (event(domain=""), "domain: missing"),
        (event(action=""), "action: missing"),
        (event(domain="\ud800"), "domain: '\\ud800' has half of a surrogate pair"),
        (event(price=float("inf")), "price: inf is no finite float32"),
        (event(colour=5), "colour: is no column of this store's behaviors"),
        (event(os=5.5), "os: must be a string or an id in this store"),
    ],
)
def test_a_bad_event_is_refused_with_a_reason(writer, tmp_path, bad, why):
    base = EmptyBase(fields=(("os", "id"), ("price", "number")))
    result = append(writer, event(1, 5), bad, event(1, 6), base=base)
    assert result.result.tolist() == [ACCEPTED, REFUSED, ACCEPTED]
    assert list(result.reasons) == [1]
    assert why in result.reasons[1]
    assert items(tmp_path) == [5, 6]
    with Delta.open(tmp_path).begin() as transaction:
        assert transaction.words().domains == ("ads",)


def test_what_a_parser_refused_stays_refused(writer):
    result = append(writer, event(1, 5), event(user=NO_ID), refused={1: "user: no good"})
    assert result.result.tolist() == [ACCEPTED, REFUSED]
    assert result.reasons == {1: "user: no good"}


def test_fields_of_another_kind_in_one_transaction(writer):
    base = EmptyBase(fields=(("os", "id"),))
    good, bad, none = writer.append(
        [batch(event(1, 1, os=4)), batch(event(1, 2, os=4.0)), batch(event(1, 3), event(1, 4, os=5))], base
    )
    assert (good.num_accepted, bad.num_refused, none.num_accepted) == (1, 1, 2)
    with writer.delta.begin() as transaction:
        assert transaction.rows(1).fields[0].tolist() == [4, NO_ID, 5]


def test_times_in_any_order_and_a_clock_that_jumps(writer, tmp_path, clock):
    assert append(writer, event(1, 1, NOW_MS + 1000), event(1, 2, 0), event(1, 3, 5)).num_accepted == 3
    clock.now_ms -= 10_000
    assert append(writer, event(1, 4, NOW_MS), event(1, 5, NOW_MS - 9000)).result.tolist() == [REFUSED, ACCEPTED]
    assert items(tmp_path) == [1, 2, 3, 5]


def test_too_many_words_are_refused(writer):
    base = EmptyBase(vocabulary=Vocabulary(domains=("ads",), actions=("click",), scenes=()))
    result = append(writer, *[event(1, 1, at, domain=f"d{at}") for at in range(300)], base=base)
    assert result.num_accepted == 255
    assert result.reasons[299] == "domain: 'd299' would be one more than the 256 different domains allowed"
    assert append(writer, event(1, 2, domain="ads"), event(1, 3, domain="d7"), base=base).num_accepted == 2
    assert append(writer, event(1, 4, domain="more"), base=base).num_refused == 1
    crowded = EmptyBase(vocabulary=Vocabulary(domains=(), actions=tuple(map(str, range(256))), scenes=()))
    assert append(writer, event(1, 5, action="5"), event(1, 6, action="x"), base=crowded).result.tolist() == [1, 3]


def test_words_that_only_duplicates_use_are_not_kept(writer):
    base = EmptyBase(held={(9, 9)})
    assert append(writer, event(9, 9, domain="x", action="y", scene="z"), base=base).num_duplicates == 1
    assert append(writer, event(9, 9, action="y"), event(1, 1, action="w", scene="v"), base=base).num_accepted == 1
    with writer.delta.begin() as transaction:
        words = transaction.words()
        assert (words.domains, words.actions, words.scenes) == (("ads",), ("w",), ("v",))
        assert transaction.rows(1).action.tolist() == [0]
    assert append(writer, event(1, 1, action="w"), event(1, 1, action="y")).result.tolist() == [DUPLICATE, ACCEPTED]


def test_a_deleted_user_is_gone_and_stays_gone(writer, tmp_path, clock):
    append(writer, event(1, 5, 100), event(2, 6, 100), event(1, 7, 200), names={"user": {1: "anna", 2: "bob"}})
    grave = writer.delete_user(1)
    assert grave == Tombstone(sequence=4, deleted_ms=NOW_MS)
    assert items(tmp_path) == []
    assert items(tmp_path, 2) == [6]
    result = append(writer, event(1, 5, 100), event(1, 8, NOW_MS), event(1, 9, NOW_MS + 1), event(2, 9, 1))
    assert result.result.tolist() == [REFUSED, REFUSED, ACCEPTED, ACCEPTED]
    assert result.reasons[0] == f"timestamp_ms: 100 is not after {NOW_MS}, when the user was deleted"
    assert items(tmp_path) == [9]
    with writer.delta.begin() as transaction:
        assert transaction.name("user", 1) is None
        assert list(transaction.deleted()) == [(1, grave)]
    clock.now_ms -= 5000
    assert writer.delete_user(1) == Tombstone(sequence=7, deleted_ms=NOW_MS + 1)
    assert writer.delete_user(3, newest_ms=NOW_MS + 9).deleted_ms == NOW_MS + 9
    with writer.delta.begin() as transaction:
        assert transaction.num_tombstones == 2


def test_refused_events_leave_no_name(writer):
    writer.delete_user(1)
    append(writer, event(1, 5, 100), names={"user": {1: "anna"}})
    with writer.delta.begin() as transaction:
        assert transaction.name("user", 1) is None


def test_the_generation_of_a_deleted_user_is_not_asked_until_it_has_merged_the_deletion(writer):
    writer.delete_user(1)
    late = event(1, 5, NOW_MS + 1)
    assert append(writer, late, base=EmptyBase(held={(1, 5)})).num_accepted == 1
    assert append(writer, event(1, 6, NOW_MS + 1), base=EmptyBase(held={(1, 6)}, delta_sequence=1)).num_duplicates == 1


def test_an_event_of_a_user_who_was_deleted_may_come_again_if_it_is_newer(writer, tmp_path):
    again = event(1, 5, NOW_MS + 500, key=3)
    append(writer, again)
    writer.delete_user(1)
    newer = event(1, 5, NOW_MS + 501, key=3)
    assert append(writer, again, newer).result.tolist() == [REFUSED, ACCEPTED]
    assert append(writer, newer).num_duplicates == 1
    assert items(tmp_path) == [5]


def test_deleting_takes_all_of_a_user_and_nothing_else(writer, tmp_path):
    for start in (0, 65_000, 1 << 17):
        with writer.delta.environment.begin(writer.delta.databases.meta, write=True) as transaction:
            transaction.put(META_SEQUENCE, NUMBER.pack(start))
        append(writer, *[event(user, item, start + 1) for item in range(400) for user in (1, 2, 3)])
    writer.delete_user(2)
    assert len(items(tmp_path, 2)) == 0
    assert len(items(tmp_path, 1)) == len(items(tmp_path, 3)) == 1200
    with writer.delta.begin() as transaction:
        assert transaction.num_events == 2400


def test_trimming_removes_what_is_merged(writer, tmp_path):
    for start in (0, 65_000, 1 << 17):
        with writer.delta.environment.begin(writer.delta.databases.meta, write=True) as transaction:
            transaction.put(META_SEQUENCE, NUMBER.pack(start))
        append(writer, *[event(user, item, start + 1) for item in range(300) for user in (1, 2)])
    assert writer.trim(65_100) == 700
    with writer.delta.begin() as transaction:
        assert transaction.trimmed == 65_100
        assert transaction.num_events == 1100
        assert min(transaction.rows(1).sequence[0], transaction.rows(2).sequence[0]) == 65_101
    assert writer.trim(65_100) == 0
    merged = EmptyBase(delta_sequence=65_100)
    assert append(writer, event(1, 0, 1), event(1, 299, 65_001), base=merged).result.tolist() == [ACCEPTED, DUPLICATE]


def test_trimming_everything_drops_words_and_names_too(writer, tmp_path):
    append(writer, event(1, 5, scene="old"), names={"user": {1: "anna"}})
    with Delta.open(tmp_path).begin() as before:
        grave = writer.delete_user(2)
        assert writer.trim(grave.sequence) == 1
        assert before.words().scenes == ("old",)
        assert before.rows(1).item.tolist() == [5]
    merged = EmptyBase(delta_sequence=grave.sequence)
    with writer.delta.begin() as transaction:
        assert transaction.words().scenes == ()
        assert transaction.name("user", 1) is None
        assert transaction.tombstone(2) == grave
        assert transaction.num_tombstones == 1
    assert append(writer, event(1, 5, scene="new"), base=merged).num_accepted == 1
    with writer.delta.begin() as transaction:
        assert transaction.words().scenes == ("new",)
        assert transaction.rows(1).scene.tolist() == [0]


def test_a_generation_that_lacks_what_was_trimmed_is_refused(writer):
    append(writer, event(1, 5), event(1, 6))
    writer.trim(1)
    with pytest.raises(GenerationError, match=r"trimmed up to 1, .* merged only up to 0: open the current one"):
        append(writer, event(1, 7))


def test_offsets_are_stored_even_without_events(writer):
    writer.append([batch()], EmptyBase(), {"log/0": b"5"})
    writer.append([batch(), batch()], EmptyBase(), {"log/1": b"6"})
    with writer.delta.begin() as transaction:
        assert list(transaction.offsets()) == [("log/0", b"5"), ("log/1", b"6")]


def test_a_full_map_loses_nothing_and_keeps_nothing_of_the_failed_append(tmp_path):
    with DeltaWriter(tmp_path, now_ms=lambda: NOW_MS, map_size_bytes=1 << 20) as writer:
        accepted = 0

        def fill():
            nonlocal accepted
            for start in range(0, 10**6, 500):
                append(writer, *[event(1, start + at, domain=f"d{start}") for at in range(500)])
                accepted += 500

        with pytest.raises(MapFullError, match="lookback-store rebuild"):
            fill()
        assert accepted > 1000
        assert items(tmp_path) == list(range(accepted))
        with writer.delta.begin() as transaction:
            assert transaction.words().domains == tuple(f"d{start}" for start in range(0, accepted, 500))
            assert transaction.last_sequence == accepted
        assert append(writer, event(1, 0, domain="d0")).num_duplicates == 1
        writer.trim(accepted)
        assert append(writer, event(1, 0), base=EmptyBase(delta_sequence=accepted)).num_accepted == 1


def test_an_error_of_the_generation_undoes_everything(writer, tmp_path):
    class Broken(EmptyBase):
        def repeated(self, events, rows):
            raise RuntimeError("no disk")

    with pytest.raises(RuntimeError):
        writer.append([batch(event(1, 5, scene="x"))], Broken(), {"log": b"1"})
    assert append(writer, event(1, 5, scene="y")).num_accepted == 1
    with writer.delta.begin() as transaction:
        assert transaction.words().scenes == ("y",)
        assert transaction.offset("log") is None


def test_one_writer_at_a_time(writer, tmp_path, clock):
    with pytest.raises(LockedError, match="to append to the store"):
        DeltaWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(StoreClosedError):
        append(writer, event())
    with pytest.raises(StoreClosedError):
        writer.delete_user(1)
    with pytest.raises(StoreClosedError):
        writer.trim(1)
    DeltaWriter(tmp_path).close()


def test_a_writer_that_cannot_open_the_delta_leaves_the_lock(writer, tmp_path):
    delta = writer.delta
    with delta.environment.begin(delta.databases.meta, write=True) as transaction:
        transaction.put(META_FORMAT, NUMBER.pack(9))
    writer.close()
    for _ in range(2):
        with pytest.raises(CorruptGenerationError, match="format version 9"):
            DeltaWriter(tmp_path)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store.delta.writer import DeltaWriter
from tests.worlds.appends import EmptyBase, batch, event
with DeltaWriter(Path(sys.argv[1])) as writer:
    for at in range(10**6):
        events = batch(*[event(at, item) for item in range(3)])
        writer.append([events], EmptyBase(), {"log": str(at).encode()})
        print(at, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path, request):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(request.config.rootpath)],
        stdout=subprocess.PIPE,
        text=True,
    )
    acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
    process.kill()
    rest, _ = process.communicate()
    acknowledged = max([acknowledged, *map(int, rest.split())])
    with DeltaWriter(tmp_path) as writer, writer.delta.begin() as transaction:
        last = int(transaction.offset("log"))
        assert last in (acknowledged, acknowledged + 1)
        assert {user: rows.item.tolist() for user, rows in transaction.scan()} == {
            user: [0, 1, 2] for user in range(last + 1)
        }
        assert np.array_equal(
            np.sort(np.concatenate([rows.sequence for _, rows in transaction.scan()])), np.arange(1, 3 * last + 4)
        )


def test_what_stands_in_the_delta_is_no_repetition_when_the_generation_has_dropped_it(writer):
    """It was merged into the generation, and is there no longer: of retention, or of an ingest with --replace."""
    [result] = writer.append([batch(event(), event(item=3))], EmptyBase())
    assert result.num_accepted == 2
    merged = EmptyBase(delta_sequence=result.sequence - 1, held={(1, 5)})
    [again] = writer.append([batch(event(), event(item=3), event(item=5))], merged)
    assert again.result.tolist() == [ACCEPTED, DUPLICATE, DUPLICATE]
