import pytest

from store import MissingGenerationError, parse_id, rebuild
from store.delta.checksum import seal
from store.delta.delta import Delta
from store.operations.trace import trace_user
from store.publishing.generation import current_name
from store.publishing.kept import kept_generations
from tests.worlds import living, sample
from tests.worlds.datasets import build_store

ANNA = parse_id("anna")


def places_of(trace):
    return {place.name: place.found for place in trace.places}


def must_go(trace):
    return {place.name: place.must_go for place in trace.places}


@pytest.fixture
def root(tmp_path):
    """Two generations, live events behind the second."""
    root = build_store(tmp_path, **living.tables(behaviors=living.BEHAVIORS[:4]))
    rebuild(root)
    living.append(root, living.LIVE)
    return root


def test_a_user_is_found_in_every_generation_and_in_the_delta(root):
    trace = trace_user(root, ANNA)
    old, new = kept_generations(root)
    everything = ("4 behaviors", "the name", "side-info", "a row of the users table")
    assert places_of(trace) == {old: everything, new: everything, "delta": ("2 events", "the name")}
    assert trace.tombstone is None
    assert trace.remains == ()


def test_a_user_never_seen_is_nowhere(root):
    trace = trace_user(root, 404)
    assert set(places_of(trace).values()) == {()}
    assert trace.remains == ()


def test_a_deleted_user_remains_until_the_rebuild(root):
    living.delete(root, ANNA)
    trace = trace_user(root, ANNA)
    assert trace.tombstone is not None
    assert trace.tombstone.deleted_ms >= living.NOW_MS
    assert trace.remains == tuple(kept_generations(root))
    assert places_of(trace)["delta"] == ()
    rebuild(root)
    after = trace_user(root, ANNA)
    assert after.remains == ()
    assert set(places_of(after).values()) == {()}
    assert list(places_of(after)) == [
        current_name(root, "store"),
        "delta",
    ]  # the others held the user, so they are gone


def test_a_user_who_came_back_is_no_remainder(root):
    grave_ms = living.NOW_MS
    living.delete(root, ANNA)
    result = living.append(root, [sample.event("anna", 70, 2, grave_ms + 50)], now_ms=grave_ms + 100)
    assert result.num_accepted == 1
    old = kept_generations(root)
    trace = trace_user(root, ANNA)
    assert must_go(trace) == {old[0]: True, old[1]: True, "delta": False}
    rebuild(root)
    trace = trace_user(root, ANNA)
    assert places_of(trace)[current_name(root, "store")] == ("1 behaviors", "the name")
    assert trace.remains == ()


def test_a_name_that_was_forgotten_is_a_remainder(root):
    living.delete(root, ANNA)
    rebuild(root)
    assert trace_user(root, ANNA).remains == ()
    delta = Delta.open(root)
    assert delta is not None
    with delta.environment.begin(delta.databases.names, write=True) as transaction:
        key = b"u" + ANNA.to_bytes(8, "big")
        transaction.put(key, seal(key, b"anna"))
    assert trace_user(root, ANNA).remains == ("delta",)


def test_what_is_left_of_a_build_is_named(root):
    (root / ".ingest-0123456789abcdef").mkdir()
    trace = trace_user(root, 404)
    assert places_of(trace)[".ingest-0123456789abcdef"] == ("an unfinished build, not looked into",)
    assert trace.remains == ()


def test_nothing_published_is_no_answer(tmp_path):
    with pytest.raises(MissingGenerationError):
        trace_user(tmp_path, 1)
