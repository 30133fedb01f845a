"""Match statistics as dense inputs: one number for each stream and level of the schema, whatever the store has."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_stage.config.schema import Schema
from model_stage.encoding.encoder import RequestEncoder
from store.retrieval import MatchStatistics
from tests.worlds.bundles import VOCABULARIES

STREAMS = tuple(("domain", f"action{number}") for number in range(4))
DAY_MS, NEVER_DAYS = 86_400_000, 730


@given(
    wanted=st.lists(st.sampled_from(STREAMS), unique=True),
    known=st.lists(st.sampled_from(STREAMS), unique=True),
    levels=st.integers(1, 5),
    store_levels=st.integers(0, 5),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_match_statistics_stand_where_the_names_say(wanted, known, levels, store_levels, count, seed):
    draw, shape = np.random.default_rng(seed), (count, store_levels, len(known))
    statistics = MatchStatistics(
        streams=tuple(known),
        count=draw.integers(0, 50, shape).astype(np.int32),
        age_ms=draw.integers(-1, 900 * DAY_MS, shape),
        total_count=draw.integers(0, 50, len(known)).astype(np.int32),
        total_age_ms=draw.integers(-1, 900 * DAY_MS, len(known)),
    )
    encoder = RequestEncoder(Schema(match_levels=levels), replace(VOCABULARIES, streams=tuple(wanted)))
    asked, found = SimpleNamespace(candidates=range(count)), SimpleNamespace(statistics=statistics)
    dense = encoder._dense(asked, found)
    assert (dense.shape, dense.dtype) == ((count, len(encoder.dense_names)), np.float32)
    for column, name in enumerate(encoder.dense_names):
        measure, _, rest = name.partition(":")
        stream, _, level = rest.partition(":level")
        at = known.index(tuple(stream.split("/"))) if tuple(stream.split("/")) in known else None
        for candidate in range(count):
            values = getattr(statistics, measure if measure.endswith("count") else f"{measure}_ms")
            place = (at,) if measure.startswith("total") else (candidate, int(level or 0), at)
            has = at is not None and (measure.startswith("total") or int(level) < store_levels)
            value = values[place] if has else (-1 if "age" in measure else 0)
            if "age" in measure:
                value = NEVER_DAYS if value < 0 else value / DAY_MS
            assert dense[candidate, column] == np.float32(np.log1p(float(value)))
