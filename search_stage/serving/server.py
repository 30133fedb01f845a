"""Stage one as a process: a store, an index, the searcher over them, and the search and admin services."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from protos.lookback.search.v1 import search_pb2_grpc
from search_stage.errors import UnusableIndexError
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from search_stage.serving.delta_lag import DeltaLag
from search_stage.serving.service import SEARCH_SERVICE, STATUS_TABLE, SearchMetrics, SearchServicer
from serving import Priority, Server, ServerMetrics, Service, Swaps, make_logger, run_until_terminated
from serving.slot import FIRST, read_served
from store.behavior_store import BehaviorStore
from store.errors import GenerationError
from store.live_writer import LiveWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from search_stage.config import SearchConfig
    from serving import ServeOptions
    from store.retrieval import SearchRequest

WRITES = frozenset({"Append", "DeleteUser"})
"""Methods that only the process that appends can answer."""


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
        append: Also offer Append and DeleteUser. One process may do that for a store at a time; of several workers it
            is the first, and the others pass these calls on to it.

    A worker that is started again while what is published cannot be served opens what the workers served last.

    Raises:
        LockedError: Another process appends to the store.
        GenerationError, SearchError: Store or index cannot be served; names the file and what to run.
        InputError: The port is taken.
    """
    metrics, slot = ServerMetrics(), options.worker
    log = make_logger("search", users=options.log_users)
    log = log if slot is None else log.bind(worker=slot.number)
    recorded = [] if options.warm_requests is None else _recorded(options.warm_requests)
    with ExitStack() as stack:
        try:
            store, searcher = _opened(store_root, index_root, config, {}, recorded)
        except (GenerationError, UnusableIndexError) as error:
            served = {} if slot is None else read_served(slot)
            if not served:
                raise
            log.error("refused", reason=str(error), serving=served)
            store, searcher = _opened(store_root, index_root, config, served, recorded)
        stack.enter_context(store)
        writes = append and (slot is None or slot.number == FIRST)
        writer = stack.enter_context(LiveWriter(store)) if writes else None
        swaps = Swaps(searcher, metrics.registry, log, slot, on_reload=None if writer is None else writer.trim)
        DeltaLag(store, metrics.registry)
        search = SearchServicer(store, searcher, SearchMetrics(metrics.registry), writer)
        service = Service(
            name=SEARCH_SERVICE,
            add=partial(search_pb2_grpc.add_SearchServiceServicer_to_server, search),
            first_worker_only=WRITES if append else frozenset(),
            priorities={"GetHistory": Priority.READ},
            waits_for_disk=WRITES,
            units={"Search": search.search_units},
        )
        server = stack.enter_context(Server((service, swaps.admin), options, STATUS_TABLE, metrics, log))
        if options.watch_s:
            stack.enter_context(swaps.watching(options.watch_s))
        yield server


def _opened(
    store_root: Path,
    index_root: Path | None,
    config: SearchConfig,
    names: Mapping[str, str],
    recorded: Sequence[SearchRequest] = (),
) -> tuple[BehaviorStore, Searcher]:
    """Opens the generations of some names; where there is none, the current one."""
    store = BehaviorStore.open(store_root, names.get("store"))
    index = None if index_root is None else IndexGeneration.open(index_root, names.get("index"))
    return store, Searcher(store, index, config, recorded=recorded)


def _recorded(file: Path) -> list[SearchRequest]:
    # Not above: pyarrow starts a thread as soon as it is imported, and a process with two cannot stand by.
    from serving.wire.recorded import read_recorded_searches

    return read_recorded_searches(file)


def serve(
    store_root: Path, index_root: Path | None, config: SearchConfig, options: ServeOptions, *, append: bool = False
) -> None:
    """Serves until SIGTERM or SIGINT, as the only task of this process. Arguments: `search_server`.

    Raises:
        SearchError, StoreError: As `search_server`.
    """
    _keep_to_one_thread()
    run_until_terminated(lambda: search_server(store_root, index_root, config, options, append=append))


def warm_up_process(store_root: Path, index_root: Path | None, config: SearchConfig) -> None:
    """Opens what `serve` would serve, and closes it: libraries and compiled kernels are then in memory.

    Raises:
        SearchError, StoreError: As `search_server`.
    """
    _keep_to_one_thread()
    store, _ = _opened(store_root, index_root, config, {})
    store.close()


def _keep_to_one_thread() -> None:
    # Requests run side by side: threads inside one of them would only fight for the cores. faiss reads this when it is
    # first imported, which is when the index is opened; setting it later does not reach the worker threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
