"""A request may belong to an experiment that the server knows: counted and logged by it, and no other one is taken."""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest

from model_stage.serving.options import RankingOptions
from model_stage.serving.rank_client import RankClient
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from serving import ServeOptions
from store.errors import InputError
from store.types import parse_id
from tests.worlds.services import AS_OF_MS, candidates

METHOD = "/lookback.ranking.v1.RankingService/Rank"


def asked(experiment):
    return RankRequest(user=parse_id("u3"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2"), experiment=experiment)


def test_requests_are_counted_and_logged_by_experiment(world, search, capfd):
    options = RankingOptions(experiments=("control", "new_bids"))
    with (
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions(metrics_port=0), options) as server,
        RankClient(f"127.0.0.1:{server.port}") as client,
    ):
        plain = client.rank(asked(""))
        for _ in range(2):
            np.testing.assert_array_equal(client.rank(asked("new_bids")).probability, plain.probability)
        client.explain(asked("control"))
        with pytest.raises(
            InputError, match=r"^experiment: unknown experiment 'nwe_bids'; this server has control, new"
        ):
            client.rank(asked("nwe_bids"))
        with pytest.raises(InputError, match=r"^experiment: "):
            client.explain(asked("nwe_bids"))
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
            counted = [line for line in page.read().decode().splitlines() if line.startswith("lookback_requests_total")]
    assert f'lookback_requests_total{{code="OK",experiment="new_bids",method="{METHOD}"}} 2.0' in counted
    assert f'lookback_requests_total{{code="OK",experiment="",method="{METHOD}"}} 1.0' in counted
    assert f'lookback_requests_total{{code="INVALID_ARGUMENT",experiment="",method="{METHOD}"}} 1.0' in counted
    assert "nwe_bids" not in "".join(counted)
    assert capfd.readouterr().err.count('"experiment": "new_bids"') == 2


@pytest.mark.parametrize("names", [("",), ("a b",), ("x" * 65,), tuple(f"e{n}" for n in range(65))])
def test_a_server_has_few_experiments_with_plain_names(names):
    with pytest.raises(InputError, match=r"^experiment: "):
        RankingOptions(experiments=names)
