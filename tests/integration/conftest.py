from __future__ import annotations

import pytest

from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from serving import ServeOptions
from tests.worlds.services import make_world

OPTIONS = ServeOptions(reflection=True, metrics_port=0)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Artefacts on disk, shared by tests that publish nothing."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def own_world(tmp_path):
    """Artefacts of one test, which may publish and break what it likes."""
    return make_world(tmp_path)


@pytest.fixture(scope="session")
def search(world):
    """A search server in this process, asked over gRPC."""
    with search_server(world.store, world.index, SearchConfig.load(), OPTIONS) as server:
        yield server


@pytest.fixture(scope="session")
def ranking(world, search):
    """A ranking server in this process over the search server."""
    with ranking_server(world.bundle, f"127.0.0.1:{search.port}", OPTIONS) as server:
        yield server


@pytest.fixture
def search_client(search):
    with RemoteRetriever(f"127.0.0.1:{search.port}") as client:
        yield client


@pytest.fixture
def rank_client(ranking):
    with RankClient(f"127.0.0.1:{ranking.port}") as client:
        yield client
