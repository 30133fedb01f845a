"""The configuration: the packaged file, and what it refuses."""

from __future__ import annotations

from importlib import import_module

import pytest
import yaml

from search_stage import SearchConfig
from search_stage.config import ENGINES
from search_stage.errors import ConfigError


def test_the_packaged_file_says_what_the_code_defaults_to():
    assert SearchConfig.load() == SearchConfig()


def test_the_packaged_file_documents_every_key():
    from importlib.resources import files

    given = yaml.safe_load(files("search_stage").joinpath("search.yaml").read_text())
    assert given == SearchConfig().model_dump(mode="json")


def test_a_domain_without_a_policy_gets_the_default(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("hard:\n  default: {quota: 7, min_matches: 2}\n  domains:\n    ads: {quota: 5, min_matches: 5}\n")
    hard = SearchConfig.load(tmp_path).hard
    assert (hard.policy("content").quota, hard.policy("content").max_level) == (7, 3)
    assert hard.policy("ads").quota == 5


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_that_can_be_configured_exists(engine):
    assert callable(import_module(f"search_stage.soft.engines.{engine}").Engine)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("soft: {top_k: -1}", "soft.top_k"),
        ("soft: {topk: 1}", "soft.topk"),
        ("soft: {engine: hnsw}", r"soft\.engine: .*must be one of faiss, gpu, numpy, scan; is 'hnsw'"),
        ("hard: {default: {quota: 3, min_matches: 4}}", r"hard\.default.*must not exceed quota"),
        ("limits: {clock_skew_s: .nan}", "limits.clock_skew_s"),
        ("statistics: {within_days: [7, 7]}", r"statistics\.within_days: .*must ascend, are \[7\.0, 7\.0\]"),
        ("statistics: {within_days: [0]}", "statistics.within_days.0"),
        ("statistics: {half_life_days: [null, null]}", r"statistics\.half_life_days: .*each may be named once"),
        ("- 1", "search.yaml"),
        ("soft: [", "search.yaml"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_key(tmp_path, text, told):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        SearchConfig.load(tmp_path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_by_name_and_folder(tmp_path):
    with pytest.raises(ConfigError, match=rf"{tmp_path}: has no search\.yaml"):
        SearchConfig.load(tmp_path)


def test_a_folder_of_a_training_without_the_file_keeps_every_default_and_says_so(tmp_path, caplog):
    (tmp_path / "train.yaml").touch()
    assert SearchConfig.load(tmp_path) == SearchConfig()
    assert f"{tmp_path}: has no search.yaml: every default holds" in caplog.text


def test_the_ages_of_a_time_term_ascend(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("soft: {time_term: [{max_age_days: 7, add: 0.1}, {max_age_days: 1, add: 0.5}]}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"soft: .*time_term: max_age_days must ascend, are \[7.0, 1.0\]"):
        SearchConfig.load(tmp_path)
