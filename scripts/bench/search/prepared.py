"""What lies around a search, by itself: the whole server over a searcher that has its answers ready.

`python -m scripts.bench.search.prepared STORE INDEX CONFIG PORT_FILE` serves until it is ended.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model_stage.serving.remote_retriever import RemoteRetriever
from protos.lookback.search.v1 import search_pb2_grpc
from scripts.servers import listening
from search_stage.config import SearchConfig
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.service import SEARCH_SERVICE, STATUS_TABLE, SearchMetrics, SearchServicer
from serving import ServeOptions, Server, ServerMetrics, Service, make_logger, run_until_terminated
from store.behavior_store import BehaviorStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.deadline import Deadline
    from store.retrieval import SearchRequest, SearchResult

_MODULE = "scripts.bench.search.prepared"


class _Prepared(Searcher):
    """Answers what it answered when a user and a number of candidates first came."""

    def __init__(self, store: BehaviorStore, index: IndexGeneration, config: SearchConfig) -> None:
        super().__init__(store, index, config)
        self._answers: dict[tuple[int, int], SearchResult] = {}

    def search(self, request: SearchRequest, deadline: Deadline | None = None, request_id: str = "") -> SearchResult:
        key = request.user, len(request.candidates)
        if key not in self._answers:
            self._answers[key] = super().search(request, deadline, request_id)
        return self._answers[key]


@contextmanager
def prepared(store: Path, index: Path, config: Path, logs: Path) -> Iterator[RemoteRetriever]:
    """Serves in a process of its own for the time of the block; gives a client.

    Args:
        store: Root of the store.
        index: Root of the index.
        config: Folder with search.yaml.
        logs: Folder for the port and the log.

    Raises:
        RuntimeError: The process did not start.
    """
    port_file = logs / "prepared.port"
    command = (_MODULE, store, index, config, port_file)
    with listening(command, port_file, logs / "prepared.log") as server, RemoteRetriever(server.address) as client:
        yield client


@contextmanager
def _server(store_root: Path, index_root: Path, config: Path, port_file: Path) -> Iterator[Server]:
    metrics = ServerMetrics()
    with BehaviorStore.open(store_root) as store:
        searcher = _Prepared(store, IndexGeneration.open(index_root), SearchConfig.load(config))
        servicer = SearchServicer(store, searcher, SearchMetrics(metrics.registry))
        add = partial(search_pb2_grpc.add_SearchServiceServicer_to_server, servicer)
        service = Service(name=SEARCH_SERVICE, add=add)
        options = ServeOptions(port_file=port_file)
        with Server((service,), options, STATUS_TABLE, metrics, make_logger("search")) as server:
            yield server


def main() -> None:
    """Serves."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    store, index, config, port_file = map(Path, sys.argv[1:])
    run_until_terminated(lambda: _server(store, index, config, port_file))


if __name__ == "__main__":
    main()
