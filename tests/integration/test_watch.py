"""What both servers show of a request: its stages, what was retrieved, and how far the base is behind."""

from __future__ import annotations

import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model_stage.serving.rank_client import RankClient
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from search_stage import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions
from serving.deadline import Deadline
from store import BehaviorStore
from store.live_writer import LiveWriter
from store.types import parse_id
from tests.worlds.appends import batch, event
from tests.worlds.services import AS_OF_MS, candidates, make_world

RANK, SEARCH = "/lookback.ranking.v1.RankingService/Rank", "/lookback.search.v1.SearchService/Search"
STAGES = {
    RANK: {"decode", "search", "encode", "score", "respond"},
    SEARCH: {"decode", "read", "match", "hard", "soft", "merge", "describe", "respond"},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("watched"))
    options = ServeOptions(metrics_port=0, slow_ms=0.001)
    with (
        search_server(world.store, world.index, SearchConfig(), options) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", options) as ranking,
    ):
        with RankClient(f"127.0.0.1:{ranking.port}") as client:
            request = RankRequest(user=parse_id("u1"), as_of_ms=AS_OF_MS, candidates=candidates("a1", "a2"))
            client.rank(request, Deadline.after(30))
        yield search, ranking


def samples_of(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return [sample for family in families for sample in family.samples]


def values(server, name, **labels):
    found = [sample for sample in samples_of(server) if sample.name == name and labels.items() <= sample.labels.items()]
    return {tuple(sample.labels.values()): sample.value for sample in found}


@pytest.mark.parametrize(("at", "method"), [(0, SEARCH), (1, RANK)])
def test_the_stages_of_a_request_are_measured_and_add_up_to_it(servers, at, method):
    give_up_s = time.monotonic() + 10  # they are counted when the answer is on its way
    (count,) = values(servers[at], "lookback_request_duration_seconds_count", method=method).values()
    while set(values(servers[at], "lookback_slow_requests_total", method=method).values()) != {count}:
        assert time.monotonic() < give_up_s
    times = [sample for sample in samples_of(servers[at]) if sample.name == "lookback_stage_duration_seconds_sum"]
    by_stage = {sample.labels["stage"]: sample.value for sample in times if sample.labels["method"] == method}
    assert by_stage.keys() == STAGES[method]
    (waited,) = values(servers[at], "lookback_queue_wait_seconds_sum", method=method).values()
    (whole,) = values(servers[at], "lookback_request_duration_seconds_sum", method=method).values()
    assert 0.5 * whole < sum(by_stage.values()) + waited <= whole


def test_retrieved_behaviors_are_counted_by_match_level(servers):
    search, _ = servers
    (retrieved,) = values(search, "lookback_retrieved_behaviors_sum").values()
    assert values(search, "lookback_retrieved_behaviors_count") == values(search, "lookback_candidates_total")
    by_level = values(search, "lookback_matches_total")
    assert retrieved == sum(by_level.values()) > 0
    assert {("0",), ("none",)} & by_level.keys()


def test_the_age_of_what_is_served_and_the_lag_of_its_base(servers):
    search, ranking = servers
    assert {name for (name,) in values(search, "lookback_generation_age_seconds")} == {"store", "index"}
    assert all(0 <= age < 600 for age in values(ranking, "lookback_generation_age_seconds", artifact="bundle").values())
    assert values(search, "lookback_delta_lag_events") == values(search, "lookback_delta_lag_seconds") == {(): 0}


def test_live_events_make_the_base_lag(tmp_path):
    world = make_world(tmp_path)
    with search_server(world.store, None, SearchConfig(), ServeOptions(metrics_port=0)) as search:
        with BehaviorStore.open(world.store) as store, LiveWriter(store) as writer:
            assert writer.append(batch(event(item=1), event(item=2), event(item=3))).num_accepted == 3
        assert values(search, "lookback_delta_lag_events") == {(): 3}
        assert values(search, "lookback_delta_lag_seconds")[()] > 0
