"""Schema and targets: what is wrong is said with the file, the key and what is allowed."""

from __future__ import annotations

import pytest

from model_stage.errors import ConfigError
from model_stage.schema import Schema, load_yaml
from model_stage.targets import Targets


def load(tmp_path, text, model):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return load_yaml(path, model)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_yaml(tmp_path / "nowhere.yaml", Schema)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attention_dim: 1", "file.yaml: attention_dim: .*greater than or equal to 2"),
        ("colour: red", "file.yaml: colour: Extra inputs are not permitted"),
        ("fields: [{name: a, part: user, kind: picture}]", "fields.0: .*'categorical', 'numeric'"),
        (
            "fields: [{name: a, part: user, kind: numeric}, {name: a, part: user, kind: numeric}]",
            "'a' is declared twice",
        ),
        ("fields: [{name: a, part: ad, kind: numeric}]", "fields.0.numeric.part: .*'user', 'candidate' or 'context'"),
        ("[1, 2", "not YAML"),
        ("- 1", "top level"),
    ],
)
def test_schema_errors_name_file_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, Schema)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targets: []", "targets: .*at least 1 item"),
        ("targets: [{name: click}, {name: click}]", "'click' is declared twice"),
        ("targets: [{name: click, weight: 0}]", "targets.0.weight: .*greater than 0"),
        (
            "targets: [{name: click, positions: [{kind: moon}]}]",
            "positions.0: .*'rank', 'interval', 'calendar'",
        ),
        (
            "targets: [{name: a, group: g}, {name: b, group: g, positions: [{kind: rank}]}]",
            "'b' and 'a' share group 'g' and must have the same positions",
        ),
    ],
)
def test_targets_errors_name_file_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, Targets)


def test_targets_of_one_group_share_their_tables(tmp_path):
    targets = load(tmp_path, "targets: [{name: a, group: rare}, {name: b, group: rare}, {name: c}]", Targets)
    assert [t.table_name for t in targets.targets] == ["group:rare", "group:rare", "target:c"]
