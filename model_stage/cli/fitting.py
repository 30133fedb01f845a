"""Whether what is published fits together, and running services serve it: the larger half of `doctor`'s checks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from model_stage.cli.checkup import Finding, as_finding
from serving.deadline import Deadline
from store.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from model_stage.bundle import Bundle
    from model_stage.cli.checkup import Installation
    from model_stage.types import Retriever
    from search_stage.config import SearchConfig
    from serving import ClientSecurity
    from store.behavior_store import BehaviorStore
    from store.publishing.manifest import Kind

ASK_S = 5.0
"""What a service gets to answer."""


def check_artefacts(at: Installation) -> Iterator[Finding]:
    """Opens configuration, bundle, store and index as the services do, and checks that they are of one making."""
    from model_stage.bundle import load_bundle
    from search_stage.config import SearchConfig
    from store.behavior_store import BehaviorStore

    config = bundle = None
    with as_finding("configuration", f"mend {at.config or 'the package'}/search.yaml") as broken:
        config = SearchConfig.load(at.config)
    yield from broken or [Finding(check="configuration", found=f"search.yaml of {at.config or 'the package'}")]
    if at.bundle is not None:
        with as_finding("bundle", f"lookback-model bundle verify --bundle {at.bundle}") as broken:
            bundle = load_bundle(at.bundle)
        yield from broken or [Finding(check="bundle", found=f"{at.bundle}: {bundle.name if bundle else ''}")]
    if at.store is not None:
        found: list[Finding] = []
        verify = f"lookback-store verify --store {at.store}"
        with as_finding("store", verify) as broken, BehaviorStore.open(at.store) as store:
            found.append(Finding(check="store", found=f"{at.store}: {store.generation}"))
            if config is not None:
                found += _check_pairs(at, store, config, bundle)
        yield from broken or found


def _check_pairs(
    at: Installation, store: BehaviorStore, config: SearchConfig, bundle: Bundle | None
) -> Iterator[Finding]:
    """Checks the index against store and bundle, and the bundle against what search answers with both."""
    from model_stage.cli.search import searcher_over
    from model_stage.ranking.ranker import Ranker

    searcher = None
    build = f"lookback-search build-index --store {at.store} --index {at.index} --bundle {at.bundle or 'BUNDLES'}"
    with as_finding("index", build) as broken:
        searcher = searcher_over(store, at.index, config, None if bundle is None else bundle.attention_model)
        if at.index is not None:
            yield Finding(check="index", found=f"{at.index}: {searcher.index_generation}")
    yield from broken
    if searcher is None or bundle is None:
        return
    differences: tuple[str, ...] = ()
    train = f"lookback-model train --store {at.store} --out {at.bundle}, or serve the store that it was trained with"
    with as_finding("bundle and store", train) as broken:
        differences = Ranker(bundle, searcher).check_retriever()
        yield Finding(check="bundle and store", found="go together")
    yield from broken
    if not broken:
        yield _configured(bundle.name, differences, at.config)


def check_services(at: Installation, security: ClientSecurity, now_s: float) -> Iterator[Finding]:
    """Asks running services; compares what they serve with what is published, and their clock with ours."""
    from model_stage.ranking.compatibility import NOTHING_ASKED
    from model_stage.serving.rank_client import RankClient
    from model_stage.serving.remote_retriever import RemoteRetriever
    from model_stage.types import RankRequest

    if at.search is not None:
        start = f"lookback-search serve --store {at.store or 'STORE'} --port {at.search.rpartition(':')[2]}"
        with as_finding(f"search at {at.search}", start) as broken, RemoteRetriever(at.search, security) as client:
            found = client.search(NOTHING_ASKED, Deadline.after(ASK_S))
            yield from _served("search", at.search, "store", found.store_generation, at.store)
            if at.index is not None:
                yield from _served("search", at.search, "index", found.index_generation, at.index)
            yield _clock(client, round(now_s * 1000))
        yield from broken
    if at.server is not None:
        start = f"lookback-model serve --bundle {at.bundle or 'BUNDLES'} --search {at.search or 'HOST:PORT'}"
        with as_finding(f"ranking at {at.server}", start) as broken, RankClient(at.server, security) as ranking:
            nothing = RankRequest(user=0, as_of_ms=1, candidates=NOTHING_ASKED.candidates)
            ranked = ranking.rank(nothing, Deadline.after(ASK_S))
            yield from _served("ranking", at.server, "model", ranked.versions.bundle, at.bundle)
            mend = "look at search: lookback-model doctor --search HOST:PORT" if ranked.degraded else ""
            yield Finding(check="ranking's search", found=ranked.degraded_reason or "answers", mend=mend)
        yield from broken


def _configured(bundle: str, differences: tuple[str, ...], config: Path | None) -> Finding:
    if not differences:
        return Finding(check="search configuration", found=f"nothing speaks against bundle {bundle}")
    mend = f"set it in {config / 'search.yaml' if config else 'search.yaml and --config'}, or train with what is served"
    return Finding(check="search configuration", found="; ".join(differences), mend=mend)


def _served(service: str, address: str, kind: Kind, name: str, root: Path | None) -> Iterator[Finding]:
    """Compares what a service has open with what is published."""
    from store.publishing.generation import current_name

    published = name if root is None else current_name(root, kind)
    found = f"{address} serves {kind} {name or 'none'}"
    if name == published:
        yield Finding(check=f"{service} serves", found=found)
        return
    reload = f"grpcurl {address} lookback.admin.v1.AdminService/Reload, and its `refused` log lines"
    yield Finding(check=f"{service} serves", found=f"{found}, {published or 'none'} is published", mend=reload)


def _clock(client: Retriever, now_ms: int) -> Finding:
    """Asks search as of our time: it refuses what is ahead of its own clock."""
    from model_stage.ranking.compatibility import NOTHING_ASKED

    try:
        client.search(replace(NOTHING_ASKED, as_of_ms=now_ms), Deadline.after(ASK_S))
    except InputError as error:
        return Finding(check="clock of search", found=str(error), mend="timedatectl set-ntp true, on both machines")
    return Finding(check="clock of search", found="is not behind this one")
