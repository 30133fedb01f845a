"""Stage one as a process: a store, an index, the searcher over them, and the search and admin services."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.service import STATUS_TABLE, AdminServicer, SearchMetrics, SearchServicer
from store.live_writer import LiveWriter
from store.reading.behavior_store import BehaviorStore
from store.serving import Server, ServerMetrics, Service, make_logger, run_until_terminated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from search_stage.config import SearchConfig
    from store.serving import ServeOptions

SEARCH_SERVICE = search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name


@contextmanager
def search_server(
    store_root: Path, index_root: Path | None, config: SearchConfig, options: ServeOptions, *, append: bool = False
) -> Iterator[Server]:
    """Serves the published store and index within this process for the time of the block, and drains at its end.

    Args:
        store_root: Root that `lookback-store ingest` published to.
        index_root: Root that `lookback-search build-index` published to; None = no soft search.
        config: Policies and limits of search.
        options: Where to listen and how much to take.
        append: Also offer Append and DeleteUser. One process may do that for a store at a time.

    Raises:
        LockedError: Another process appends to the store.
        GenerationError, SearchError: Store or index cannot be served; names the file and what to run.
        InputError: The port is taken.
    """
    metrics = ServerMetrics()
    with ExitStack() as stack:
        store = stack.enter_context(BehaviorStore.open(store_root))
        writer = stack.enter_context(LiveWriter(store)) if append else None
        index = None if index_root is None else IndexGeneration.open(index_root)
        searcher = Searcher(store, index, config)
        search = SearchServicer(store, searcher, SearchMetrics(metrics.registry), writer)
        admin = AdminServicer(searcher, writer)
        services = (
            Service(name=SEARCH_SERVICE, add=partial(search_pb2_grpc.add_SearchServiceServicer_to_server, search)),
            Service(
                name=ADMIN_SERVICE, add=partial(admin_pb2_grpc.add_AdminServiceServicer_to_server, admin), queued=False
            ),
        )
        with Server(services, options, STATUS_TABLE, metrics, make_logger("search")) as server:
            yield server


def serve(
    store_root: Path, index_root: Path | None, config: SearchConfig, options: ServeOptions, *, append: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT, as the only task of this process. Arguments: `search_server`.

    Raises:
        SearchError, StoreError: As `search_server`.
    """
    # Requests run side by side: threads inside one of them would only fight for the cores. faiss reads this when it is
    # first imported, which is when the index is opened; setting it later does not reach the worker threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_until_terminated(lambda: search_server(store_root, index_root, config, options, append=append))
