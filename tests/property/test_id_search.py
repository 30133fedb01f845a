"""Ids are found where halving finds them, whatever their distribution; rows are those of a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_stage.encoding.id_search import IdSearch, find_by_halving
from model_stage.encoding.vocabulary import IdRows
from store.types import NO_ID

ANY = st.one_of(
    st.integers(0, NO_ID), st.integers(0, 40), st.integers(NO_ID - 40, NO_ID), st.integers(2**40, 2**40 + 99)
)


@given(known=st.sets(ANY, max_size=200), asked=st.lists(ANY, max_size=50))
@example(known=set(), asked=[3])
@example(known={7}, asked=[7, 6, 8])
@example(known={0, NO_ID}, asked=[0, 1, NO_ID, NO_ID - 1])
@example(known={*range(100), NO_ID}, asked=[5, 99, 100, NO_ID])  # one bucket with nearly all of them
def test_ids_are_found_where_halving_finds_them(known, asked):
    ids = np.array(sorted(known), np.uint64)
    asked = np.array([*asked, *sorted(known)], np.uint64)
    found, place = IdSearch(ids).find(asked), {value: at for at, value in enumerate(sorted(known))}
    expected = [place.get(value, -1) for value in asked.tolist()]
    assert found.tolist() == find_by_halving(ids, asked).tolist() == expected
    rows = IdRows(ids=ids, rows=np.arange(len(ids))[::-1] + 5)
    assert rows.lookup(asked, -7).tolist() == [-7 if at < 0 else len(ids) - at + 4 for at in expected]


@pytest.mark.parametrize("spread", ["hashes", "numbers", "both"])
def test_many_ids(spread):
    draw = np.random.default_rng(0)
    known = {
        "hashes": draw.integers(0, 2**63, 50_000).astype(np.uint64) * np.uint64(2),
        "numbers": np.arange(3, 50_003, dtype=np.uint64),
        "both": np.concatenate((draw.integers(0, 2**63, 1000).astype(np.uint64), np.arange(1000, dtype=np.uint64))),
    }[spread]
    known = np.unique(known)
    search = IdSearch(known)
    assert (search._begin is None) == (spread == "both")
    asked = np.concatenate((known[::7], known[::11] + np.uint64(1), draw.integers(0, 2**63, 500).astype(np.uint64)))
    assert search.find(asked).tolist() == find_by_halving(known, asked).tolist()
