"""A small world on disk: a dataset in the input contract, the store, an untrained bundle and an index made of it.

Tree: food > (tea, coffee), tools > saws. Items t1, t2 (tea), c1 (coffee), s1 (saws); ads a1 covering t1 and t2, a2
covering s1, a3 without products. Users u0 .. u9 have 40 behaviors each, in two domains.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_stage.bundle import Provenance, new_network, save_bundle
from model_stage.calibration import Calibration, Platt
from model_stage.config.schema import BucketedField, CategoricalField, MultiValuedField, NumericField, Schema
from model_stage.config.targets import Target, Targets
from model_stage.encoding.vocabulary import TreeVocabulary, Vocabularies
from model_stage.networks import NetworkConfig
from model_stage.networks.preset import load_preset
from search_stage.index.build import build_index
from store import BehaviorStore
from store.building.ingest import ingest
from store.retrieval import Candidates
from store.types import NO_ID, parse_id

AS_OF_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Roots of the published artefacts."""

    folder: Path
    store: Path
    index: Path
    bundle: Path


def make_world(folder: Path) -> World:
    world = World(folder=folder, store=folder / "store", index=folder / "index", bundle=folder / "bundle")
    write_dataset(folder / "data")
    ingest(folder / "data", world.store)
    publish_bundle(world, seed=0)
    publish_index(world)
    return world


def write_dataset(folder: Path, *, behaviors_per_user: int = 40) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "taxonomy.csv": [
            "category,parent,name",
            "food,,Food",
            "tea,food,Tea",
            "coffee,food,Coffee",
            "tools,,Tools",
            "saws,tools,Saws",
        ],
        "items.csv": [
            "item,category,name,covers,brand,price,weight,shop,tags[]",
            "t1,tea,Green tea,,leaf,2.5,0.1,p1,hot|green",
            "t2,tea,Black tea,,leaf,,0.1,p2,hot",
            "c1,coffee,Espresso,,bean,4,0.2,p1,hot|black",
            "s1,saws,Hand saw,,steel,19,1.5,p3,",
            "a1,tea,Tea offer,t1|t2,leaf,1,0.3,p1,green|hot|new",
            "a2,saws,Saw offer,s1,steel,1,1.5,p4,new",
            "a3,coffee,,,,,0.2,,",
        ],
        "users.csv": [
            "user,segment,likes[]",
            *(f"u{number},s{number % 3},{'|'.join(f'l{like}' for like in range(number % 4))}" for number in range(9)),
        ],
        "behaviors.csv": ["user,item,category,domain,action,timestamp_ms,device,stars"],
    }
    items = (("t1", "tea"), ("c1", "coffee"), ("t2", "tea"), ("s1", "saws"), ("x9", "tea"))
    for user in range(10):
        for number in range(behaviors_per_user):
            item, category = items[(user + number * number) % len(items)]
            domain, action = ("ads", "click") if number % 5 == 0 else ("content", "buy")
            time_ms = AS_OF_MS - (number + 1) * DAY_MS - user
            side = f"{('phone', '', 'tv')[number % 3]},{number % 4 or ''}"
            tables["behaviors.csv"].append(f"u{user},{item},{category},{domain},{action},{time_ms},{side}")
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def publish_bundle(world: World, *, seed: int, preset: str = "tin", provenance: Provenance | None = None) -> str:
    """Publishes an untrained network with random vectors: what it says means nothing, and depends on everything."""
    schema = Schema(
        attention_dim=8,
        representation_dim=8,
        behavior_fields=("action", "device", "domain", "stars"),
        fields=(
            CategoricalField(kind="categorical", name="brand", part="candidate"),
            NumericField(kind="numeric", name="price", part="candidate"),
            CategoricalField(kind="categorical", name="segment", part="user"),
            NumericField(kind="numeric", name="hour", part="context"),
            BucketedField(kind="bucketed", name="weight", part="candidate"),
            BucketedField(kind="bucketed", name="stars", part="behavior"),
            CategoricalField(kind="categorical", name="device", part="behavior", rows=11),
            CategoricalField(kind="categorical", name="shop", part="candidate", rows=20),
            MultiValuedField(kind="multi_valued", name="tags", part="candidate"),
            MultiValuedField(kind="multi_valued", name="likes", part="user", rows=30),
        ),
    )
    targets = Targets(targets=(Target(name="click"), Target(name="buy")))
    config = NetworkConfig(preset=load_preset(preset))
    with BehaviorStore.open(world.store) as store, store.snapshot() as snapshot:
        vocabularies = Vocabularies(
            tree=TreeVocabulary.from_taxonomy(snapshot.taxonomy, np.ones(snapshot.taxonomy.num_nodes, np.bool_)),
            behavior_names={"domain": ("ads", "content"), "action": ("buy", "click"), "scene": ("",)},
            categorical={
                "brand": np.sort(np.array([parse_id(name) for name in ("leaf", "bean", "steel")], np.uint64)),
                "tags": np.sort(np.array([parse_id(name) for name in ("hot", "green", "new")], np.uint64)),
                "segment": np.sort(np.array([parse_id(f"s{number}") for number in range(3)], np.uint64)),
            },
            streams=snapshot.streams,
            boundaries={"weight": np.array([0.2, 1.5], np.float32), "stars": np.array([2], np.float32)},
        )
        generation = snapshot.generation
    return save_bundle(
        world.bundle,
        schema=schema,
        targets=targets,
        network_config=config,
        vocabularies=vocabularies,
        network=new_network(schema, targets, config, vocabularies, seed=seed),
        calibration=Calibration(by_target={"click": Platt(slope=1.5, intercept=-0.25)}),
        metrics={},
        provenance=provenance or Provenance(store_generation=generation),
    )


def publish_index(world: World) -> str:
    with BehaviorStore.open(world.store) as store:
        return build_index(world.bundle, store, world.index).generation


def candidates(*names: str, categories: tuple[str, ...] = (), covers: tuple[tuple[str, ...], ...] = ()) -> Candidates:
    """Candidates by name, "" = no id; without categories and products as far as they are not given."""
    lists = covers or ((),) * len(names)
    return Candidates(
        item=np.array([parse_id(name) if name else NO_ID for name in names], np.uint64),
        category=np.array([parse_id(name) for name in categories] or [NO_ID] * len(names), np.uint64),
        covers=np.array([parse_id(name) for each in lists for name in each], np.uint64),
        covers_offsets=np.concatenate(([0], np.cumsum([len(each) for each in lists]))).astype(np.int64),
    )


def metric(server, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@dataclass(slots=True, kw_only=True)
class Process:
    """A server in a process of its own."""

    popen: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def terminate(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(90)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER: where every thread stands
            self.popen.wait(10)
            raise AssertionError(f"it does not end; its log:\n{self.log.read_text()[-20_000:]}") from None


@contextmanager
def server_process(folder: Path, package: str, *arguments: str | Path, port: int = 0):
    """Starts `python -m <package> serve ...`, on a free port if none is given; its log is kept for failures to show."""
    number = len(list(folder.glob("port*")))
    port_file, log = folder / f"port{number}", folder / f"{package}{number}.log"
    command = [sys.executable, "-W", "error", "-m", package, "serve", "--port", str(port), "--port-file", port_file]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    with log.open("wb") as stream:
        popen = subprocess.Popen([*command, *arguments], cwd=CHECKOUT, stderr=stream, stdout=stream, env=environment)
    try:
        yield Process(popen=popen, port=_port(port_file, popen, log), log=log)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def _port(port_file: Path, popen: subprocess.Popen[bytes], log: Path) -> int:
    give_up_s = time.monotonic() + 180
    while not port_file.exists():
        assert popen.poll() is None, log.read_text()
        assert time.monotonic() < give_up_s, log.read_text()
        time.sleep(0.02)
    return int(port_file.read_text())
