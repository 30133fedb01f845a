"""Schema and targets: what is wrong is said with the file, the key and what is allowed."""

from __future__ import annotations

import pytest

from model_stage.config.schema import Schema, load_yaml
from model_stage.config.targets import Targets
from model_stage.errors import ConfigError
from model_stage.networks.preset import preset_names
from model_stage.training.pipeline import ModelConfig
from tests.worlds.networks import SCHEMA, TARGETS, config_of, make_network


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
        ("match_measures: [count, count]", "file.yaml: match_measures: .*each may be named once"),
        ("match_within_days: [0]", "file.yaml: match_within_days.*greater than 0"),
        (
            "fields: [{name: a, part: user, kind: picture}]",
            "fields.0: .*'categorical', 'multi_valued', 'numeric', 'bucketed'",
        ),
        ("fields: [{name: a, part: user, kind: bucketed, buckets: 1}]", "fields.0.bucketed.buckets: .*equal to 2"),
        ("fields: [{name: a, part: user, kind: bucketed, transform: log1p}]", "transform: .*allowed: .*buckets, dim"),
        ("fields: [{name: a, part: user, kind: numeric, dim: 2}]", "fields.0.numeric.dim: .*allowed: .*transform"),
        ("fields: [{name: a, part: user, kind: categorical, rows: 1}]", "fields.0.categorical.rows: .*equal to 2"),
        ("fields: [{name: a, part: user, kind: categorical, min_count: 0}]", "min_count: .*equal to 1"),
        (
            "fields: [{name: a, part: user, kind: categorical, rows: 9, min_count: 3}]",
            "fields.0.categorical.min_count: a field with `rows` has no vocabulary",
        ),
        (
            "fields: [{name: a, part: user, kind: multi_valued, rows: 9, min_count: 3}]",
            "fields.0.multi_valued.min_count: a field with `rows` has no vocabulary",
        ),
        ("fields: [{name: a, part: user, kind: multi_valued, transform: log1p}]", "transform: .*allowed: .*dim, rows"),
        (
            "fields: [{name: a, part: user, kind: numeric}, {name: a, part: user, kind: numeric}]",
            "'a' is declared twice",
        ),
        (
            "fields: [{name: a, part: ad, kind: numeric}]",
            "part: .*'user', 'candidate', 'context' or 'behavior'",
        ),
        (
            "behavior_fields: [domain, os]",
            "behavior_fields.1: 'os' is no field of behaviors; there are domain, action",
        ),
        ("behavior_fields: [domain, domain]", "behavior_fields.1: 'domain' is listed twice"),
        (
            "fields: [{name: os, part: behavior, kind: categorical}]",
            "fields.0.name: 'os' is of behaviors, and not among behavior_fields",
        ),
        (
            "{behavior_fields: [os], fields: [{name: os, part: behavior, kind: numeric}]}",
            "fields.0.kind: a behavior has one embedded value of a field: categorical or bucketed, not numeric",
        ),
        (
            "{behavior_fields: [os], fields: [{name: os, part: behavior, kind: multi_valued}]}",
            "fields.0.kind: .*not multi_valued",
        ),
        (
            "{behavior_fields: [os], fields: [{name: os, part: behavior, kind: bucketed, dim: 3}]}",
            "fields.0.dim: a field of behaviors is fused into the two tables",
        ),
        (
            "{behavior_fields: [scene], fields: [{name: scene, part: behavior, kind: bucketed}]}",
            "fields.0.name: 'scene' is what every behavior has",
        ),
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
        ("targets: [{name: click}, {name: buy, given: clik}]", "'buy' is given 'clik', .*; there are click"),
        ("targets: [{name: click}, {name: buy, given: buy}]", "'buy' is conditional on itself: buy given buy"),
        (
            "targets: [{name: a, given: b}, {name: b, given: c}, {name: c, given: b}]",
            "'b' is conditional on itself: b given c given b",
        ),
    ],
)
def test_targets_errors_name_file_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, Targets)


def test_targets_of_one_group_share_their_tables(tmp_path):
    targets = load(tmp_path, "targets: [{name: a, group: rare}, {name: b, group: rare}, {name: c}]", Targets)
    assert [t.table_name for t in targets.targets] == ["group:rare", "group:rare", "target:c"]


BAD_TARGETS = [
    ("targets:\n- name: a\n- name: a\n", "targets.1.name: 'a' is declared twice (line 3)"),
    ("# x\ntargets:\n- name: a\n  weight: -1\n", "targets.0.weight: Input should be greater than 0 (line 4)"),
    ("targets:\n- name: a\n  colour: red\n", "targets.0.colour: Extra inputs are not permitted; allowed: name, weight"),
    ("targets:\n- name: a\n  colour: red\n", "(line 3)"),
    (
        "targets:\n- name: a\n  positions:\n  - kind: interval\n  - {kind: calendar,\n     period: month}\n",
        "targets.0.positions.1.calendar.period: Input should be 'day', 'week' or 'year' (line 6)",
    ),
    ("targets:\n- name: a\n  positions:\n  - kind: moon\n", "'rank', 'interval', 'calendar', 'match_level' (line 4)"),
    (
        "targets:\n- {name: a, group: g}\n- name: b\n  group: g\n  positions: [{kind: rank}]\n",
        "targets.1.positions: 'b' and 'a' share group 'g' and must have the same positions (line 5)",
    ),
    ("targets:\n- name: a\n\n  weight: 1\n  weight: 2\n", "weight: is given twice (line 5)"),
    ("", "targets: Field required"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TARGETS)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, Targets)
    assert str(caught.value).startswith(f"{tmp_path / 'file.yaml'}: ")
    assert message in str(caught.value)


def test_targets_check_prints_what_is_sound_and_refuses_a_field_that_is_a_label(run, tmp_path):
    targets, schema = tmp_path / "targets.yaml", tmp_path / "schema.yaml"
    targets.write_text("targets: [{name: a, group: rare}, {name: b}]")
    schema.write_text(
        "fields:\n- {kind: numeric, name: price, part: user}\n- kind: numeric\n  part: user\n  name: label_b\n"
    )
    code, out, _ = run("targets", "check", targets)
    assert (code, "sound" in out, "group:rare" in out, "interval (16 rows)" in out) == (0, True, True, True)
    code, _, err = run("targets", "check", targets, "--schema", schema)
    assert code == 2
    assert f"{schema}: fields.1.name: 'label_b' is the label of target 'b'" in err
    assert "(line 5)" in err
    targets.write_text("targets: []")
    code, _, err = run("targets", "check", targets)
    assert (code, "at least 1 item" in err, "(line 1)" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "network: {preset: tinn}",
            f"network.preset: .*'tinn' is no preset; there are {preset_names()[0]}, ",
        ),
        ("network: {preset: {name: mine, summary: Mine., blocks: [{kind: moon}]}}", "preset.blocks.0: .*'stacked_tin'"),
        (
            "network: {preset: {name: mine, summary: Mine., blocks: [{kind: tin, heads: 2}]}}",
            "preset.blocks.0.tin.heads: Extra inputs are not permitted",
        ),
        (
            "network: {preset: {name: mine, summary: Mine., blocks: [], selection: {sources: [luck]}}}",
            "preset.selection.*sources.0: .*'hard', 'soft' or 'recent'",
        ),
        ("network: {heads: {kind: hydra}}", "network.heads: .*'shared_bottom', 'mmoe', 'ple'"),
    ],
)
def test_network_errors_name_file_key_and_what_is_allowed(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text, ModelConfig)


def test_a_preset_may_stand_in_the_file_itself(tmp_path):
    text = "network: {preset: {name: mine, summary: Mine., blocks: [{kind: stacked_tin, layers: 2}]}}"
    preset = load(tmp_path, text, ModelConfig).network.preset
    assert (preset.name, preset.blocks[0].layers) == ("mine", 2)


def test_a_preset_that_the_schema_cannot_carry_is_refused_with_the_reason(monkeypatch):
    narrow = SCHEMA.model_copy(update={"representation_dim": 7})
    monkeypatch.setattr("tests.worlds.networks.SCHEMA", narrow)
    with pytest.raises(ConfigError, match=r"preset 'sasrec': block 'sasrec' .*representation_dim 7.*heads: 2"):
        make_network(config_of("sasrec"), TARGETS)
