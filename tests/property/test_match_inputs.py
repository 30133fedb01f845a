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
DAYS = st.sets(st.sampled_from([0.5, 7.0, 30.0])).map(sorted)
HALF_LIVES_MS = {"no decay": 0, "30d": 30 * DAY_MS, "90d": 90 * DAY_MS}
MEASURES = ("count", "age_ms", "oldest_age_ms", "within")


@given(
    wanted=st.lists(st.sampled_from(STREAMS), unique=True),
    known=st.lists(st.sampled_from(STREAMS), unique=True),
    levels=st.integers(1, 5),
    asked_days=DAYS,
    answered=DAYS,
    half_lives=st.lists(st.sampled_from(["no decay", "30d", "90d"]), unique=True),
    measures=st.lists(st.sampled_from(["count", "age", "oldest", "gap", "due", "within"]), unique=True),
    store_levels=st.integers(0, 5),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_match_statistics_stand_where_the_names_say(
    wanted, known, levels, asked_days, answered, half_lives, measures, store_levels, count, seed
):
    draw, shape = np.random.default_rng(seed), (count, store_levels, len(known))
    statistics = MatchStatistics(
        streams=tuple(known),
        within_ms=np.array([round(days * DAY_MS) for days in answered], np.int64),
        **drawn(draw, shape, len(answered)),
        **{f"total_{name}": values for name, values in drawn(draw, shape[2:], len(answered)).items()},
        half_life_ms=np.array([HALF_LIVES_MS[each] for each in half_lives], np.int64),
        similarity=draw.normal(size=(count, len(known), len(half_lives))).astype(np.float32),
    )
    schema = Schema(
        match_levels=levels,
        match_measures=tuple(measures),
        match_within_days=tuple(asked_days),
        match_half_life_days=(None, 30),
    )
    encoder = RequestEncoder(schema, replace(VOCABULARIES, streams=tuple(wanted)))
    asked, found = SimpleNamespace(candidates=range(count)), SimpleNamespace(statistics=statistics)
    dense = encoder._dense(asked, found)
    assert (dense.shape, dense.dtype) == ((count, len(encoder.dense_names)), np.float32)
    per_stream = len(measures) + ("within" in measures) * (len(asked_days) - 1)
    assert len(encoder.dense_names) == (per_stream * (levels + 1) + 2) * len(wanted)
    for column, name in enumerate(encoder.dense_names):
        measure, _, rest = name.partition(":")
        stream, _, level = rest.rpartition(":level") if ":level" in rest else rest.partition(":")
        prefix, measure = ("total_", measure[6:]) if measure.startswith("total_") else ("", measure)
        at = known.index(tuple(stream.split("/"))) if tuple(stream.split("/")) in known else None
        if measure == "similarity":
            there = at is not None and level in half_lives
            similar = statistics.similarity[:, at, half_lives.index(level)] if there else np.full(count, np.nan)
            np.testing.assert_array_equal(dense[:, column], similar, err_msg=name)
            continue
        for candidate in range(count):
            place = (at,) if prefix else (candidate, int(level or 0), at)
            has = at is not None and (prefix or int(level) < store_levels)
            matches = [getattr(statistics, prefix + name)[place] for name in MEASURES] if has else [0, -1, -1, None]
            np.testing.assert_equal(dense[candidate, column], expected(measure, *matches, answered), err_msg=name)


def drawn(draw, shape, num_ages):
    """Counts, and ages of the newest and the oldest, as search gives them."""
    count = draw.integers(0, 4, shape).astype(np.int32)
    newest = np.where(count > 0, draw.integers(0, 900 * DAY_MS, shape), -1)
    oldest = newest + np.where(count > 1, draw.choice([0, 1, 100 * DAY_MS], shape), 0)
    within = draw.integers(0, 50, (*shape, num_ages)).astype(np.int32)
    return {"count": count, "age_ms": newest, "oldest_age_ms": oldest, "within": within}


def expected(measure, count, newest_ms, oldest_ms, within, answered):
    """The input, of one number after another."""
    newest, oldest = (NEVER_DAYS if age_ms < 0 else age_ms / DAY_MS for age_ms in (newest_ms, oldest_ms))
    gap = (oldest - newest) / (count - 1) if count > 1 else NEVER_DAYS
    values = {"count": count, "age": newest, "oldest": oldest, "gap": gap, "due": newest / max(gap, 1 / 24)}
    if measure in values:
        return np.float32(np.log1p(float(values[measure])))
    days = float(measure.removeprefix("within").removesuffix("d"))
    if within is None:
        return np.float32(0)
    return np.float32(np.log1p(float(within[answered.index(days)]))) if days in answered else np.float32(np.nan)
