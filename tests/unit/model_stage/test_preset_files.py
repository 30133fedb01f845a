"""The packaged presets as data, and what a selection keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_stage.bundle import new_network
from model_stage.config.schema import Schema
from model_stage.errors import ConfigError
from model_stage.networks import NetworkConfig
from model_stage.networks.preset import Selection, load_preset, preset_names
from store.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT
from tests.worlds.networks import TARGETS, config_of, make_request, run, vocabularies

BITS = {"hard": SOURCE_HARD, "soft": SOURCE_SOFT, "recent": SOURCE_RECENT}


def test_every_file_says_its_name_and_one_line():
    for name in preset_names():
        preset = load_preset(name)
        assert preset.name == name
        assert "\n" not in preset.summary
        assert len(preset.summary) < 100


def test_the_ablations_differ_from_tencent_in_one_part():
    whole = load_preset("tencent")
    ablations = [load_preset(name) for name in preset_names() if name.startswith("tencent_no_")]
    assert len(ablations) == 4
    for ablation in ablations:
        missing = [block for block in whole.blocks if block not in ablation.blocks]
        assert len(missing) + (ablation.positions != whole.positions) == 1, ablation.name


@given(
    source=st.lists(st.lists(st.integers(1, 7), max_size=6), min_size=1, max_size=5),
    sources=st.sets(st.sampled_from(sorted(BITS)), min_size=1),
    newest=st.none() | st.integers(1, 4),
)
def test_a_selection_keeps_what_its_words_say(source, sources, newest):
    expected, at = [], 0
    for mine in source:
        found = [at + k for k, bits in enumerate(mine) if any(bits & BITS[name] for name in sources)]
        expected += found if newest is None else found[-newest:]
        at += len(mine)
    candidate_M = torch.tensor([b for b, mine in enumerate(source) for _ in mine], dtype=torch.int64)
    source_M = torch.tensor([bits for mine in source for bits in mine], dtype=torch.int64)
    kept = Selection(sources=tuple(sorted(sources)), newest=newest).kept(source_M, candidate_M)
    if kept is None:
        assert newest is None
        assert expected == list(range(at))
    else:
        assert kept.tolist() == expected


@pytest.mark.parametrize("preset", ["longer", "tencent"])
def test_a_schema_without_fields_of_users_and_scenes_is_enough(preset):
    """LONGER has no user embedding then, and side-info TIN leaves out the subsets that nothing is in."""
    schema = Schema(attention_dim=4, representation_dim=6, behavior_fields=("domain",))
    network = new_network(schema, TARGETS, config_of(preset), vocabularies(), seed=0).eval()
    request = make_request([4, 0, 7], seed=1)
    request = replace(
        request,
        behavior_side=request.behavior_side[:, :1],
        categorical=request.categorical[:, :0],
        multi_valued=(),
        dense=request.dense[:, 1:],
    )
    output = run(network, request)
    assert torch.isfinite(output.logit_BT).all()
    if preset == "tencent":
        assert network.interest[0].num_masses == 2  # node; domain


def test_subsets_without_any_part_that_behaviors_have_are_refused():
    block = {"kind": "side_info_tin", "subsets": [["scene"]]}
    config = NetworkConfig.model_validate({"preset": {"name": "mine", "summary": "Mine.", "blocks": [block]}})
    schema = Schema(behavior_fields=("domain",))
    with pytest.raises(ConfigError, match=r"preset 'mine': block 'side_info_tin' .*subsets: none .*: node, domain"):
        new_network(schema, TARGETS, config, vocabularies(), seed=0)
