"""Invariants over the whole of it: I6 no future, I7 one score whatever the way, I8 each candidate alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_stage.bundle import load_bundle
from model_stage.encoding.batch import collate
from model_stage.ranking.ranker import Ranker
from model_stage.training.examples import Examples
from model_stage.training.impressions import load_impressions, requests_of
from model_stage.training.retrieval import retrieve_examples
from model_stage.training.scoring import logits_by_row
from model_stage.types import RankRequest
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store import BehaviorStore
from store.building.ingest import ingest
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, make_world, write_dataset

NAMES = ("a1", "a2", "a3", "t1", "t2", "c1", "s1", "x9", "never seen")
SAME = 1e-6
"""Sums of another length may round differently in float32."""

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def ranker(world):
    with BehaviorStore.open(world.store) as store:
        yield Ranker(load_bundle(world.bundle), Searcher(store, IndexGeneration.open(world.index)))


def request_for(user: str, *names: str, as_of_ms: int = AS_OF_MS) -> RankRequest:
    return RankRequest(user=parse_id(user), as_of_ms=as_of_ms, candidates=candidates(*names))


def spread(probability: np.ndarray) -> float:
    return float(np.ptp(probability, axis=0).min())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=12), data=st.data())
def test_a_score_depends_on_its_candidate_alone(ranker, names, data):
    """I8: neither who else is asked about nor the order moves a score."""
    user = data.draw(st.sampled_from(["u0", "u3", "u7", "nobody"]))
    together = ranker.rank(request_for(user, *names)).probability
    order = data.draw(st.permutations(range(len(names))))
    shuffled = ranker.rank(request_for(user, *[names[at] for at in order])).probability
    np.testing.assert_allclose(shuffled, together[list(order)], atol=SAME, rtol=0)
    for at, name in enumerate(names):
        alone = ranker.rank(request_for(user, name)).probability
        np.testing.assert_allclose(alone[0], together[at], atol=SAME, rtol=0)


def test_scores_do_tell_candidates_apart(ranker):
    """The tests of this file could not fail if every score were the same."""
    assert spread(ranker.rank(request_for("u3", *NAMES)).probability) > 1e-3


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.lists(st.sampled_from([f"u{n}" for n in range(10)] + ["nobody"]), min_size=2, max_size=6), data=st.data()
)
def test_a_score_does_not_move_with_the_other_requests_of_a_batch(ranker, users, data):
    """I8 in training and evaluation, where requests of several users, long and empty ones, stand in one batch."""
    encoded, newest = [], ranker.bundle.network_config.preset.newest_read
    for user in users:
        names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
        days = data.draw(st.integers(0, 45))
        request = request_for(user, *names, as_of_ms=AS_OF_MS - days * DAY_MS)
        encoded.append(ranker.bundle.encoder.encode(request, ranker.retriever.search(request.query(newest=newest))))
    network = ranker.bundle.network
    with torch.inference_mode():
        together = network(collate(encoded)).logit_BT
        alone = torch.cat([network(collate([one])).logit_BT for one in encoded])
        parts = torch.cat(
            [
                network(collate([one.take(np.array([at]))])).logit_BT
                for one in encoded
                for at in range(len(one.candidate_node))
            ]
        )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together, parts, atol=1e-5, rtol=1e-5)


def test_nothing_at_or_after_the_time_of_the_request_is_used(world, tmp_path):
    """I6: events planted at the request's time and later change no score, no statistic and no explanation."""
    write_dataset(tmp_path / "data")
    with (tmp_path / "data" / "behaviors.csv").open("a", encoding="utf-8") as file:
        for user in range(10):
            for later_ms in (0, 1, DAY_MS):
                file.write(
                    f"u{user},s1,saws,ads,click,{AS_OF_MS + later_ms},,\nu{user},t1,tea,content,buy,{AS_OF_MS},,\n"
                )
    ingest(tmp_path / "data", tmp_path / "store")
    bundle, index = load_bundle(world.bundle), IndexGeneration.open(world.index)
    answers = []
    for root, as_of_ms in ((world.store, AS_OF_MS), (tmp_path / "store", AS_OF_MS), (tmp_path / "store", AS_OF_MS + 1)):
        with BehaviorStore.open(root) as store:
            ranker = Ranker(bundle, Searcher(store, index))
            request = request_for("u3", *NAMES, as_of_ms=as_of_ms)
            answers.append((ranker.rank(request), ranker.explain(request, 1)))
    (before, reasons), (planted, planted_reasons), (a_moment_later, _) = answers
    np.testing.assert_array_equal(planted.probability, before.probability)
    assert planted.num_behaviors == before.num_behaviors
    assert planted_reasons.behaviors == reasons.behaviors
    assert a_moment_later.num_behaviors > before.num_behaviors
    assert not np.array_equal(a_moment_later.probability, before.probability)


def test_library_grpc_and_offline_evaluation_give_the_same_scores(world, ranker, rank_client, tmp_path):
    """I7: one request, three ways."""
    lines = ["user,item,timestamp_ms,label_click,label_buy,price,segment"]
    for user in range(10):
        for at, name in enumerate(NAMES):
            lines.append(f"u{user},{name},{AS_OF_MS - user * 3 * DAY_MS},{at % 2},,{at}.5,s{user % 4}")
    (tmp_path / "impressions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bundle = ranker.bundle
    impressions = load_impressions(tmp_path, bundle.schema, bundle.targets.names)
    preset = bundle.network_config.preset
    examples = retrieve_examples(impressions, bundle.schema, preset, ranker.retriever, bundle.encoder)
    logits = logits_by_row(bundle.network, Examples.of(list(examples)))
    offline = bundle.calibration.probabilities(logits, bundle.targets.names, bundle.targets.given)
    assert np.isnan(impressions.labels[:, 1]).all()
    count = 0
    for rows, request in requests_of(impressions, bundle.schema):
        library, remote = ranker.rank(request), rank_client.rank(request)
        np.testing.assert_array_equal(remote.probability, library.probability)
        np.testing.assert_allclose(library.probability, offline[rows], atol=SAME, rtol=0)
        count += len(rows)
    assert count == len(impressions) == 90


def test_fields_of_the_request_win_over_those_of_the_store(ranker):
    request = request_for("u3", "t1", "a1")
    stored = ranker.rank(request).probability
    price = np.array([2.5, np.nan], np.float32)
    same = replace(request, candidate_fields={"price": price})
    other = replace(request, candidate_fields={"price": price + 10})
    np.testing.assert_array_equal(ranker.rank(same).probability, stored)
    changed = ranker.rank(other).probability
    assert changed[0, 0] != stored[0, 0]
    np.testing.assert_array_equal(changed[1], stored[1])


def test_two_worlds_made_alike_are_alike(tmp_path):
    """Equal input and seeds give equal artefacts: what a comparison of two trainings rests on."""
    first, second = make_world(tmp_path / "a"), make_world(tmp_path / "b")
    weights = [load_bundle(world.bundle).network.state_dict() for world in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
