"""Requests a second of several ranking workers over one, at saturating load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_stage.bundle import SERVED_VECTORS
from model_stage.serving.convert import request_to_proto
from scripts.bench.workers import Service, measure_workers
from scripts.servers import started
from store.publishing.generation import current_name

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.bench.rank.world import RankWorld

_REQUESTS = 32


def bench_throughput(
    world: RankWorld, preset: str, length: int, count: int, logs: Path, *, rounds: int, seconds: float
) -> dict[str, Any]:
    """Measures what a second ranking worker brings; see `measure_workers`. Search has one worker all the time.

    Args:
        world: What was built.
        preset: Of its bundles.
        length: Behaviors of the user.
        count: Candidates of each request.
        logs: Folder for the log of search; made.
        rounds: Measurements of each number of workers.
        seconds: Of one measurement.
    """
    logs.mkdir(parents=True)
    requests = [request_to_proto(world.request(length, count, seed)).SerializeToString() for seed in range(_REQUESTS)]
    arguments = ("--store", world.searched.store, "--index", world.searched.index, "--config", world.config)
    bundle = world.bundles[preset]
    with started("search_stage", logs, *arguments) as search:
        service = Service(
            package="model_stage",
            arguments=("--bundle", bundle, "--search", search.address),
            method="/lookback.ranking.v1.RankingService/Rank",
            table=bundle / "generations" / current_name(bundle, "model") / SERVED_VECTORS,
            asks=[search.pid],
        )
        found = measure_workers(service, requests, rounds=rounds, seconds=seconds)
    return {"preset": preset, "L": length, "C": count, **found}
