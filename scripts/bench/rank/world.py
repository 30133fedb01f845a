"""A generated world for the benchmark of ranking: users of exact lengths, an index, and a bundle of each preset.

The networks are untrained, published and served as trained ones are: what a request costs does not depend on what was
learned. Their vectors have the structure that trained ones have (`scripts.bench.search.world`), so that search works
as hard as it does then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_stage.bundle import Provenance, new_network, save_bundle
from model_stage.calibration import Calibration
from model_stage.encoding.vocabulary import TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig
from model_stage.types import RankRequest
from scripts.bench.rank.model import DIM, THREE, WIDE
from scripts.bench.search.world import ITEM_NOISE, World, write_data
from search_stage.index.build import build_index
from store.behavior_store import BehaviorStore
from store.building.ingest import ingest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from model_stage.networks import RankingNetwork
    from store.reading.snapshot import Snapshot

TOP_K = 50
"""Of hard and of soft search, each."""
CONFIG = f"""hard: {{default: {{quota: {TOP_K // 2}, min_matches: {TOP_K // 2}}}}}
soft: {{top_k: {TOP_K}}}
recent: {{top_k: 0}}
"""
"""The quota is each domain's, of which there are two; hard search climbs until it is full."""
CATEGORIES = 20
"""Of the candidates of a request."""
_BRANDS, _SEGMENTS = 500, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWorld:
    """Roots of what was built, and what to ask."""

    searched: World
    config: Path
    bundles: Mapping[str, Path]
    """Root of each preset's bundle."""

    def request(self, length: int, num_candidates: int, seed: int = 0) -> RankRequest:
        """Gives a request of the user with that many behaviors; its candidates are distinct."""
        asked = self.searched.request(length, num_candidates, CATEGORIES, seed)
        draw = np.random.default_rng([seed, 8])
        return RankRequest(
            user=asked.user,
            as_of_ms=asked.as_of_ms,
            candidates=asked.candidates,
            candidate_fields={
                "brand": draw.integers(0, _BRANDS, num_candidates).astype(np.uint64),
                "price": draw.normal(size=num_candidates).astype(np.float32),
            },
            user_fields={"segment": np.array([3], np.uint64)},
        )


def build_rank_world(folder: Path, presets: Sequence[str], lengths: Sequence[int], num_items: int) -> RankWorld:
    """Ingests a dataset, publishes a bundle of each preset, and an index of their common attention table.

    Args:
        folder: Where to; must not exist.
        presets: Names of packaged ones.
        lengths: Behaviors of each user.
        num_items: Items of the catalogue.
    """
    catalogue = write_data(folder / "data", lengths, num_items, 1.0, np.random.default_rng(0))
    ingest(folder / "data", folder / "store")
    (folder / "search.yaml").write_text(CONFIG, encoding="utf-8")
    bundles = {name: folder / "bundles" / name for name in presets}
    with BehaviorStore.open(folder / "store") as store:
        with store.snapshot() as snapshot:
            known = _vocabularies(snapshot)
        first = ""
        for name, root in bundles.items():
            published = _publish(root, name, known, first)
            first = first or published
        build_index(bundles[presets[0]], store, folder / "index")
    searched = World(store=folder / "store", index=folder / "index", category_of=catalogue.category_of)
    return RankWorld(searched=searched, config=folder, bundles=bundles)


def _vocabularies(snapshot: Snapshot) -> Vocabularies:
    names = snapshot.vocabulary
    return Vocabularies(
        tree=TreeVocabulary.from_taxonomy(snapshot.taxonomy, np.ones(snapshot.taxonomy.num_nodes, bool)),
        behavior_names={"domain": names.domains, "action": names.actions, "scene": names.scenes},
        categorical={"brand": np.arange(_BRANDS, dtype=np.uint64), "segment": np.arange(_SEGMENTS, dtype=np.uint64)},
        streams=snapshot.streams,
    )


def _publish(root: Path, preset: str, vocabularies: Vocabularies, attention_from: str) -> str:
    config = NetworkConfig.model_validate({"preset": preset})
    network = new_network(WIDE, THREE, config, vocabularies, seed=0)
    _fill_tables(network, vocabularies)
    return save_bundle(
        root,
        schema=WIDE,
        targets=THREE,
        network_config=config,
        vocabularies=vocabularies,
        network=network,
        calibration=Calibration(),
        metrics={},
        provenance=Provenance(attention_from=attention_from),
    )


def _fill_tables(network: RankingNetwork, vocabularies: Vocabularies) -> None:
    """Gives every node of both tables something of its own; the same for every preset."""
    generator = torch.Generator().manual_seed(0)
    items = torch.from_numpy(vocabularies.tree.items.rows)
    with torch.no_grad():
        for table in (network.attention.node, network.representation.node):
            table.weight.normal_(std=DIM**-0.5, generator=generator)
            table.weight[items] *= ITEM_NOISE
            table.weight[0] = 0.0
