"""Every metric that the dashboard and the rules name is on the page of a running server, or of a supervisor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from model_stage.serving.options import RankingOptions
from model_stage.serving.server import ranking_server
from search_stage import SearchConfig
from search_stage.serving.server import search_server
from serving.workers.metrics_page import WorkerPages
from tests.worlds.security import make_safe, read_page
from tests.worlds.services import make_world

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",), "info": ("",)}


def shown(page):
    """What can be asked for: names as they are on the page, with the endings of histograms."""
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", page, flags=re.MULTILINE):
        yield from (name + ending for ending in ENDINGS[kind])


def queries():
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in dashboard["annotations"]["list"])
    yield from (each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query")
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "lookback.yml").read_text(encoding="utf-8"))
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def test_every_metric_that_is_asked_for_is_shown(tmp_path):
    world, safe = make_world(tmp_path / "world"), make_safe(tmp_path / "safe")
    options = safe.options(metrics_port=0)
    asides = RankingOptions(served_log=tmp_path / "log", shadow_bundle=world.bundle)
    with (
        search_server(world.store, world.index, SearchConfig(), options) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", options, asides) as ranking,
    ):
        pages = [read_page(server.metrics_port, safe.keys, safe.by_role["-"]) for server in (search, ranking)]
    supervisor = CollectorRegistry()
    supervisor.register(WorkerPages([SimpleNamespace(number=1, restarts=0, report=None)]))
    pages.append(generate_latest(supervisor).decode())
    there = {name for page in pages for name in shown(page)}
    named = {name for query in queries() for name in re.findall(r"\b(?:lookback|process)_\w+", query)}
    assert len(named) > 30
    assert sorted(named - there) == []
