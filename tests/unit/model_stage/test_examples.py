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
from tests.worlds.examples import assert_equal, make_example, make_users, tensors_of
from tests.worlds.networks import config_of, make_network, make_request

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(requests=st.lists(LENGTHS, min_size=1, max_size=5), data=st.data())
def test_a_batch_cut_from_columns_is_that_of_the_requests_themselves(requests, data):
    made = [make_example(lengths, seed, history=True) for seed, lengths in enumerate(requests)]
    users = make_users()
    examples = Examples.of(made, users)
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
        mine, past = slice(*found.histories.offsets[row : row + 2]), made[at].history
        for name in ("node", "side"):
            column = getattr(users, name)[past.first : past.stop]
            np.testing.assert_array_equal(getattr(found.histories.rows, name)[mine], column, name)
        interval_ms = past.as_of_ms - users.timestamp_ms[past.first : past.stop]
        np.testing.assert_array_equal(found.histories.interval_ms[mine], interval_ms)


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
    users = make_users()
    parts = [users.take(slice(at, at + 15)) for at in range(0, 60, 15)]
    with ExampleWriter(tmp_path) as writer:
        writer.write(iter(made), iter(parts) if history else None)
    expected = columns_of(made)
    expected |= {f"user.{name}": getattr(users, name) for name in ("node", "side", "timestamp_ms")} if history else {}
    files = {path.name.removesuffix(".npy"): np.load(path) for path in tmp_path.iterdir()}
    assert files.keys() == expected.keys()
    for name, column in files.items():
        assert column.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(column, expected[name], name)
    found = read_examples(tmp_path)
    assert not found.labels.flags.writeable, "mapped, and for reading alone"
    assert found.num_candidates == sum(len(example.rows) for example in made)
    assert (found.histories is not None, found.whole) == (history, False)
    everyone = np.arange(len(made))
    chosen = (everyone, np.arange(found.num_candidates), found.requests.candidate_offsets)
    assert_equal(found.take(*chosen).batch(), collate([example.encoded for example in made]))


def test_whole_histories_stand_in_files_once_and_in_batches_as_the_behaviors_of_their_requests(tmp_path):
    users, made = make_users(), [make_example([3, 0, 5], seed, history=True) for seed in range(7)]
    made = [replace(one, encoded=with_behaviors(one.encoded, users, one.history)) for one in made]
    with ExampleWriter(tmp_path) as writer:
        writer.write(made, [users], whole=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("behavior_", "interval_ms"))]
    found = read_examples(tmp_path)
    assert found.whole
    for asked in ([3], [5, 0, 0, 2], range(7)):
        candidates = [np.arange(3) + 3 * at for at in asked]
        taken = found.take(np.array(asked), np.concatenate(candidates), 3 * np.arange(len(asked) + 1))
        assert_equal(taken.batch(), collate([made[at].encoded for at in asked]))
        again = taken.take(np.arange(len(asked)), np.arange(3 * len(asked)), 3 * np.arange(len(asked) + 1))
        assert_equal(again.batch(), taken.batch())


def with_behaviors(request, users, span):
    """Gives a request whose behaviors are a history, with as many pairs as it had, where there is anything."""
    rows = slice(span.first, span.stop)
    count = span.stop - span.first
    lengths = np.minimum(np.diff(request.offsets), count)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    kept = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    return replace(
        request,
        behavior_node=users.node[rows],
        behavior_side=users.side[rows],
        interval_ms=span.as_of_ms - users.timestamp_ms[rows],
        pair_behavior=kept,
        match_level=request.match_level[: len(kept)],
        source=request.source[: len(kept)],
        offsets=offsets,
        num_newest=count,
    )


def test_a_network_scores_mapped_examples_as_it_does_those_in_memory(tmp_path):
    made = [make_example([3, 0, 9], seed) for seed in range(5)]
    with ExampleWriter(tmp_path) as writer:
        writer.write(made)
    network = make_network(config_of("tin"))
    with torch.inference_mode():
        mapped = network(read_examples(tmp_path).requests.batch()).logit_BT
        expected = network(collate([example.encoded for example in made])).logit_BT
    assert torch.equal(mapped, expected)
