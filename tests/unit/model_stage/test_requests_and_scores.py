"""What the library takes for a request, and the file of scores that `evaluate --scores` writes."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from model_stage.training.scores_file import write_scores
from model_stage.training.scoring import Scored
from model_stage.types import RankRequest
from store.dataset.impressions import Impressions
from store.errors import InputError
from store.retrieval import Candidates, SearchRequest


def test_scores_of_every_impression(tmp_path):
    rows = Impressions(
        user=np.array([7, 2**64 - 2], np.uint64),
        item=np.array([1, 2], np.uint64),
        timestamp_ms=np.array([5, 6]),
        targets=("click",),
        labels=np.array([[1], [np.nan]], np.float32),
        fields={"price": np.zeros(2, np.float32)},
    )
    found = np.array([[0.25], [1 - 1e-12]])
    scored = Scored(
        bundle="b", impressions=rows, probability=found, metrics={"click": {}}, requests_with_history=1.0, facts=None
    )
    write_scores(tmp_path / "scores.parquet", scored)
    read = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    assert read == {
        "user": [7, 2**64 - 2],
        "item": [1, 2],
        "timestamp_ms": [5, 6],
        "label_click": [1.0, None],
        "probability_click": [0.25, 1 - 1e-12],
    }


@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.uint32, np.uint8])
def test_integers_of_numpy_are_taken(kind):
    candidates = Candidates.by_id(np.array([5], np.uint64))
    for made in (
        RankRequest(user=kind(7), as_of_ms=kind(9), candidates=candidates),
        SearchRequest(user=kind(7), as_of_ms=kind(9), candidates=candidates),
    ):
        assert (made.user, made.as_of_ms) == (7, 9)
        assert (type(made.user), type(made.as_of_ms)) == (int, int)


@pytest.mark.parametrize("value", [7.0, np.float64(7), float("nan"), "7", True, np.True_, None])
@pytest.mark.parametrize("request_type", [RankRequest, SearchRequest])
def test_what_is_no_integer_is_refused_by_field(value, request_type):
    candidates = Candidates.by_id(np.array([5], np.uint64))
    with pytest.raises(InputError, match=r"^user: .* is no integer"):
        request_type(user=value, as_of_ms=9, candidates=candidates)
    with pytest.raises(InputError, match=r"^as_of_ms: .* is no integer"):
        request_type(user=7, as_of_ms=value, candidates=candidates)


def test_candidates_of_another_type_are_refused():
    with pytest.raises(InputError, match=r"candidates.item: must be uint64, is int64"):
        Candidates.by_id(np.array([5]))
