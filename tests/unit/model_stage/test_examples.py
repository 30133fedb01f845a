"""Examples as columns: the batches cut from them are those of the requests themselves, in memory and from files."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_stage.encoding.batch import EncodedRequest, collate
from model_stage.training import example_files
from model_stage.training.example_files import ExampleWriter, columns_of, read_examples
from model_stage.training.examples import Examples
from store.lists import Lists
from tests.worlds.examples import assert_equal, make_example, tensors_of
from tests.worlds.networks import config_of, make_network, make_request

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(requests=st.lists(LENGTHS, min_size=1, max_size=5), data=st.data())
def test_a_batch_cut_from_columns_is_that_of_the_requests_themselves(requests, data):
    made = [make_example(lengths, seed) for seed, lengths in enumerate(requests)]
    examples = Examples.of(made)
    first = examples.requests.candidate_offsets
    asked = data.draw(st.lists(st.integers(0, len(made) - 1), min_size=1, max_size=6))
    chosen = [
        np.array(data.draw(st.lists(st.integers(0, len(requests[at]) - 1), min_size=1, max_size=5)), np.int64)
        for at in asked
    ]
    candidates = np.concatenate([first[at] + places for at, places in zip(asked, chosen, strict=True)])
    offsets = np.cumsum([0, *map(len, chosen)])
    found = examples.take(np.array(asked), candidates, offsets)
    parts = [made[at].encoded.take(places) for at, places in zip(asked, chosen, strict=True)]
    assert_equal(found.requests.batch(), collate(parts))
    labels = np.concatenate([made[at].labels[places] for at, places in zip(asked, chosen, strict=True)])
    np.testing.assert_array_equal(found.labels, labels)
    rows = np.concatenate([made[at].rows[places] for at, places in zip(asked, chosen, strict=True)])
    np.testing.assert_array_equal(found.rows, rows)
    for row, at in enumerate(asked):
        span = slice(found.histories.offsets[row], found.histories.offsets[row + 1])
        for name in ("node", "side", "interval_ms"):
            np.testing.assert_array_equal(getattr(found.histories, name)[span], getattr(made[at].history, name), name)


def read_only(request: EncodedRequest) -> EncodedRequest:
    """The same arrays, not to be written: parts of a message, or of a mapped file."""

    def view(array):
        found = array.view()
        found.flags.writeable = False
        return found

    arrays = {f.name: getattr(request, f.name) for f in fields(request)}
    columns = {name: view(array) for name, array in arrays.items() if isinstance(array, np.ndarray)}
    lists = tuple(Lists(values=view(each.values), offsets=view(each.offsets)) for each in request.multi_valued)
    return replace(request, multi_valued=lists, **columns)


@pytest.mark.parametrize("lengths", [[3, 0, 5], [0], [0, 0]])
@pytest.mark.parametrize("written", ["writable", "read only"])
def test_the_batch_of_one_request_is_its_own_arrays(lengths, written):
    request = make_request(lengths)
    given = read_only(request) if written == "read only" else request
    batch = collate([given])  # a warning would be an error
    assert_equal(batch, collate([request]))
    shared = {
        "behavior_node_U": given.behavior_node,
        "behavior_side_UF": given.behavior_side,
        "interval_ms_U": given.interval_ms,
        "behavior_M": given.pair_behavior,
        "match_level_M": given.match_level,
        "source_M": given.source,
        "pair_offsets": given.offsets,
        "candidate_node_B": given.candidate_node,
        "categorical_BF": given.categorical,
        "dense_BS": given.dense,
    }
    tensors = tensors_of(batch)
    for name, array in shared.items():
        assert array.size == 0 or np.shares_memory(tensors[name].numpy(), array), name
    for (rows, offsets), lists in zip(batch.multi_valued, given.multi_valued, strict=True):
        assert lists.values.size == 0 or np.shares_memory(rows.numpy(), lists.values)
        assert np.shares_memory(offsets.numpy(), lists.offsets)


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("at_once", [1, 40, 10**9])
def test_files_hold_what_was_written_however_it_was_cut(history, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(example_files, "WRITTEN_PAIRS", at_once)
    made = [make_example([3, 0, 9][: 1 + seed % 3], seed, history=history) for seed in range(7)]
    with ExampleWriter(tmp_path) as writer:
        writer.write(iter(made))
    found = read_examples(tmp_path)
    expected = columns_of(Examples.of(made))
    assert columns_of(found).keys() == expected.keys()
    for name, column in columns_of(found).items():
        assert column.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(column, expected[name], name)
        assert column.size == 0 or not column.flags.writeable, "mapped, and for reading alone"
    assert found.num_candidates == sum(len(example.rows) for example in made)
    assert (found.histories is not None) == history


def test_a_network_scores_mapped_examples_as_it_does_those_in_memory(tmp_path):
    made = [make_example([3, 0, 9], seed) for seed in range(5)]
    with ExampleWriter(tmp_path) as writer:
        writer.write(made)
    network = make_network(config_of("tin"))
    with torch.inference_mode():
        mapped = network(read_examples(tmp_path).requests.batch()).logit_BT
        expected = network(collate([example.encoded for example in made])).logit_BT
    assert torch.equal(mapped, expected)
