import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scripts.joins import count_before, equal_pairs, runs_before

pairs = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 6)), max_size=30)


@given(events=pairs, questions=pairs)
def test_equals_counting_one_by_one(events: list[tuple[int, int]], questions: list[tuple[int, int]]) -> None:
    event_key, event_ms = (np.array([e[at] for e in events], dtype=np.int64) for at in (0, 1))
    query_key, query_ms = (np.array([q[at] for q in questions], dtype=np.int64) for at in (0, 1))

    count, newest = count_before(event_key, event_ms, query_key, query_ms)

    earlier = [[ms for key, ms in events if key == asked >= 0 and ms < now] for asked, now in questions]
    assert count.tolist() == [len(times) for times in earlier]
    assert newest.tolist() == [max(times, default=-1) for times in earlier]


def test_equal_pairs_names_every_equal_row_in_order() -> None:
    wanted, keys = np.array([7, 3, 7, 9]), np.array([3, 7, 8, 7])

    rows, at = equal_pairs(wanted, keys)

    assert list(zip(rows.tolist(), at.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 0), (2, 1), (2, 3)]


@given(events=pairs, questions=pairs, max_pairs=st.integers(1, 9))
def test_chunks_give_every_pair_once_oldest_first(
    events: list[tuple[int, int]], questions: list[tuple[int, int]], max_pairs: int
) -> None:
    event_key, event_ms = (np.array([e[at] for e in events], dtype=np.int64) for at in (0, 1))
    query_key, query_ms = (np.array([q[at] for q in questions], dtype=np.int64) for at in (0, 1))

    runs = runs_before(event_key, event_ms, query_key, query_ms)
    chunks = list(runs.chunks(max_pairs))

    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(len(questions)))
    assert all(runs.sizes[chunk].sum() <= max_pairs + runs.sizes[chunk].max() for chunk in chunks)
    found = [pair for chunk in chunks for pair in zip(*(column.tolist() for column in runs.pairs(chunk)), strict=True)]
    assert found == [
        (number, row)
        for number, (asked, now) in enumerate(questions)
        for row in sorted(range(len(events)), key=lambda row: event_ms[row])
        if events[row][0] == asked >= 0 and events[row][1] < now
    ]
