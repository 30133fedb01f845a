"""Stage two as a process: a bundle, a client of the search stage, and the ranking and admin services over them."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from model_stage.bundle import load_bundle
from model_stage.errors import BundleError, ConfigError
from model_stage.serving.options import RankingOptions
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.search_calls import SearchCallMetrics
from model_stage.serving.service import STATUS_TABLE, CurrentRanker, RankingMetrics, RankingServicer
from model_stage.serving.warm_up import warm_up
from protos.lookback.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from serving import Priority, Server, ServerMetrics, Service, Swaps, make_logger, run_until_terminated
from serving.slot import read_served
from store.errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from structlog.typing import FilteringBoundLogger

    from model_stage.serving.service import TakesServed
    from model_stage.types import RankRequest
    from serving import ServeOptions, WorkerSlot
    from store.retrieval import SearchResult

RANKING_SERVICE = ranking_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name


@contextmanager
def ranking_server(
    bundle_root: Path, search_address: str, options: ServeOptions, ranking_options: RankingOptions | None = None
) -> Iterator[Server]:
    """Serves the published bundle within this process for the time of the block, and drains at its end.

    The search stage need not be up: until it answers, rankings are degraded and say so. A worker that is started again
    while what is published cannot be served opens what the workers served last.

    Args:
        bundle_root: Root that `lookback-model train` published to.
        search_address: Host and port of the search stage.
        options: Where to listen and how much to take.
        ranking_options: What to do beside answering, and how to ask the search stage; None = nothing, plainly.

    Raises:
        GenerationError, BundleError, ConfigError: The bundle cannot be served; names the file and what to run.
        InputError: The port is taken, or a file of certificates or tokens cannot be used.
    """
    metrics, slot = ServerMetrics(), options.worker
    log = make_logger("ranking", users=options.log_users)
    log = log if slot is None else log.bind(worker=slot.number)
    wanted = RankingOptions() if ranking_options is None else ranking_options
    calls = SearchCallMetrics(metrics.registry)
    with ExitStack() as stack:
        client = stack.enter_context(RemoteRetriever(search_address, wanted.search_security, calls))
        calls.watch(client.circuit)
        recorded = [] if options.warm_requests is None else _recorded(options.warm_requests)
        try:
            current = CurrentRanker(bundle_root, client, recorded=recorded)
        except (GenerationError, BundleError, ConfigError) as error:
            served = {} if slot is None else read_served(slot)
            if not served:
                raise
            log.error("refused", reason=str(error), serving=served)
            current = CurrentRanker(bundle_root, client, served["bundle"], recorded)
        asides = _open_asides(wanted, client, metrics.registry, log, slot, stack)
        ranking = RankingServicer(current, RankingMetrics(metrics.registry), log, wanted, asides)
        swaps = Swaps(current, metrics.registry, log, slot)
        service = Service(
            name=RANKING_SERVICE,
            add=partial(ranking_pb2_grpc.add_RankingServiceServicer_to_server, ranking),
            priorities={"Explain": Priority.EXPLAIN},
            units={"Rank": ranking.rank_units, "Explain": ranking.explain_units},
        )
        server = stack.enter_context(Server((service, swaps.admin), options, STATUS_TABLE, metrics, log))
        if options.watch_s:
            stack.enter_context(swaps.watching(options.watch_s))
        yield server


def _open_asides(
    options: RankingOptions,
    client: RemoteRetriever,
    registry: CollectorRegistry,
    log: FilteringBoundLogger,
    slot: WorkerSlot | None,
    stack: ExitStack,
) -> list[TakesServed]:
    """Opens what works beside the answers; the stack closes it."""
    asides: list[TakesServed] = []
    if options.shadow_bundle is not None:
        from model_stage.serving.shadow import Shadow

        own, security = None, options.search_security
        if options.shadow_search is not None:
            own = stack.enter_context(RemoteRetriever(options.shadow_search, security))
        shadow = Shadow(options.shadow_bundle, options.shadow_share, client, own, registry, log)
        asides.append(stack.enter_context(closing(shadow)))
    if options.served_log is not None:
        from model_stage.serving.served_log.log import ServedLog

        worker = 0 if slot is None else slot.number
        served_log = ServedLog(options.served_log, options.served_share, registry, log, worker)
        asides.append(stack.enter_context(closing(served_log)))
    return asides


def _recorded(file: Path) -> list[tuple[RankRequest, SearchResult]]:
    # Not above: pyarrow starts a thread as soon as it is imported, and a process with two cannot stand by.
    from model_stage.serving.served_log.warm_requests import read_warm_requests

    return read_warm_requests(file)


def serve(
    bundle_root: Path, search_address: str, options: ServeOptions, ranking_options: RankingOptions | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, as the only task of this process.

    Raises:
        ModelError, StoreError: As `ranking_server`.
    """
    _keep_to_one_thread()
    run_until_terminated(lambda: ranking_server(bundle_root, search_address, options, ranking_options))


def warm_up_process(bundle_root: Path) -> None:
    """Opens what `serve` would serve, scores with it and drops it: libraries and kernels are then in memory.

    Raises:
        ModelError, StoreError: As `ranking_server`.
    """
    _keep_to_one_thread()
    warm_up(load_bundle(bundle_root))


def _keep_to_one_thread() -> None:
    torch.set_num_threads(1)  # requests run side by side: threads inside one of them would only fight for the cores
