"""The packaged presets as data, and what a selection keeps."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model_stage.networks.preset import Selection, load_preset, preset_names
from store.reading.retrieval import SOURCE_HARD, SOURCE_RECENT, SOURCE_SOFT

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
