"""What a training looks at first: what cannot be learned is refused before any work, what is odd is told."""

from __future__ import annotations

import json
import logging

import pytest

from model_stage.config.schema import Schema, load_yaml
from model_stage.errors import ConfigError
from model_stage.training.data_check import check_data
from model_stage.training.impressions import Splits, load_impressions
from store import BehaviorStore
from tests.worlds.datasets import build_store, write_table

DAY = 86_400_000
START = 1_710_000_000_000
SPLITS = {"validation_from_ms": START + 10 * DAY, "test_from_ms": START + 12 * DAY}


@pytest.fixture
def store(tmp_path):
    behaviors = [
        dict(user=user, item=7, category=3, domain="ads", action="click", timestamp_ms=START + user)
        for user in range(3)
    ]
    return build_store(
        tmp_path,
        behaviors=behaviors,
        taxonomy=[dict(category=3, parent=None)],
        items=[dict(item=7, category=3, brand="leaf")],
        users=[dict(user=1, age=3)],
    )


def rows(**changes):
    return [
        dict(user=user, item=7, timestamp_ms=START + day * DAY, label_click=user % 2, label_buy=1 - user % 2, hour=day)
        | changes
        for day in (2, 5, 10, 11, 12)
        for user in range(4)
    ]


def check(tmp_path, store, impressions=None, splits=SPLITS, fields=("context hour numeric",)):
    folder = tmp_path / "dataset"
    write_table(folder, "impressions", rows() if impressions is None else impressions, suffix=".csv")
    (folder / "splits.json").write_text(json.dumps(splits))
    named = [dict(zip(("part", "name", "kind"), field.split(), strict=True)) for field in fields]
    schema = Schema.model_validate({"fields": named})
    found = load_impressions(folder, schema, ("click", "buy"))
    split = load_yaml(folder / "splits.json", Splits)
    parts = {name: split.select(found, name) for name in ("train", "validation")}
    with BehaviorStore.open(store) as opened, opened.snapshot() as snapshot:
        return check_data(schema, split, found, parts, snapshot)


def test_good_data_is_measured(tmp_path, store, caplog):
    fields = ("context hour numeric", "candidate brand categorical", "user age numeric")
    found = check(tmp_path, store, fields=fields)
    assert found["requests_with_history"] == 0.75  # user 3 has none
    assert found["field_coverage"] == {"hour": 1.0, "brand": 1.0, "age": 0.25}
    assert not caplog.records


def test_dates_are_times(tmp_path, store):
    splits = {
        "train_from_ms": "2024-03-10",
        "validation_from_ms": "2024-03-19T16:00",
        "test_from_ms": SPLITS["test_from_ms"],
    }
    assert check(tmp_path, store, splits=splits)["requests_with_history"] == 0.75
    with pytest.raises(ConfigError, match=r"splits.json: validation_from_ms: .*'19.3.24' is no time"):
        check(tmp_path, store, splits=SPLITS | {"validation_from_ms": "19.3.24"})


VALIDATION, TEST = SPLITS["validation_from_ms"], SPLITS["test_from_ms"]
WRONG_SPLITS = [
    ((None, TEST, VALIDATION), "must ascend"),
    ((VALIDATION, VALIDATION, TEST), "must ascend"),
    ((None, START, TEST), "the train split has no impressions before 2024-03-09 .*; there are 20, of"),
    ((None, START + 6 * DAY, VALIDATION - 1), "the validation split has no impressions from 2024-03-15"),
    ((None, VALIDATION // 1000, TEST // 1000), "the train split has no impressions before 1970-01-20"),
    ((None, VALIDATION + 90 * DAY, TEST + 90 * DAY), "the validation split has no impressions from 2024-06"),
]


@pytest.mark.parametrize(("times", "message"), WRONG_SPLITS)
def test_splits_must_ascend_and_hold_something(tmp_path, store, times, message):
    splits = dict(zip(("train_from_ms", "validation_from_ms", "test_from_ms"), times, strict=True))
    with pytest.raises(ConfigError, match=rf"splits.json: .*{message}"):
        check(tmp_path, store, splits=splits)


@pytest.mark.parametrize(("label", "positives"), [(0, 0), (1, 8)])
def test_a_target_of_one_class_is_told_before_the_work(tmp_path, store, caplog, label, positives):
    check(tmp_path, store, rows(label_buy=label))
    assert f"target buy: of 8 known labels of the train split {positives} are positive" in caplog.text


def test_a_target_without_a_label_is_refused(tmp_path, store):
    with pytest.raises(ConfigError, match="target 'buy': the train split has no known label of it"):
        check(tmp_path, store, rows(label_buy=""))


@pytest.mark.parametrize(("label", "known", "positives"), [("", 0, 0), (0, 8, 0), (1, 8, 8)])
def test_a_target_that_cannot_be_measured_is_told(tmp_path, store, caplog, label, known, positives):
    impressions = [row | ({"label_buy": label} if row["hour"] in (10, 11) else {}) for row in rows()]
    check(tmp_path, store, impressions)
    [record] = caplog.records
    expected = f"target buy: of {known} known labels of the validation split {positives} are positive"
    assert expected in record.getMessage()


def test_a_field_that_stands_nowhere(tmp_path, store):
    with pytest.raises(
        ConfigError, match=r"context field 'hours' stands nowhere: the impressions have the columns hour$"
    ):
        check(tmp_path, store, fields=("context hours numeric",))
    with pytest.raises(ConfigError, match=r"user field 'seg' stands nowhere: .* hour, the store's users have age"):
        check(tmp_path, store, fields=("user seg categorical",))


def test_a_field_without_any_value_is_told(tmp_path, store, caplog):
    assert check(tmp_path, store, rows(hour=""))["field_coverage"] == {"hour": 0.0}
    assert "context field hour has no value in any impression" in caplog.text


def test_impressions_in_seconds(tmp_path, store):
    impressions = [row | {"timestamp_ms": row["timestamp_ms"] // 1000} for row in rows()]
    splits = {name: value // 1000 for name, value in SPLITS.items()}
    with pytest.raises(ConfigError, match=r"timestamp_ms: the newest is 1711\d+, 1970-01-20 .* in milliseconds\?"):
        check(tmp_path, store, impressions, splits)


def test_requests_of_users_without_a_history_are_told(tmp_path, store, caplog):
    assert check(tmp_path, store, [row | {"user": row["user"] + 50} for row in rows()])["requests_with_history"] == 0.0
    assert "none has a behavior before its time" in caplog.text


def test_contradictions_are_told(tmp_path, store, caplog):
    caplog.set_level(logging.WARNING)
    twice = [row | {"label_click": 1 - row["label_click"]} for row in rows()]
    check(tmp_path, store, rows() + rows())
    assert not caplog.records
    check(tmp_path, store, [*rows(), *twice])
    assert "20 impressions contradict another of the same user, item and time, such as rows 1 and 21" in caplog.text


def test_an_unknown_label_contradicts_nothing(tmp_path, store, caplog):
    check(tmp_path, store, [*rows(), *rows(label_click="")])
    assert not caplog.records
