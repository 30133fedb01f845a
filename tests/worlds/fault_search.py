"""Worlds of search that can be told apart: generations of store and index whose items have no number in common."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.index.build import build_index
from search_stage.index.generation import IndexGeneration
from search_stage.reference import reference_search
from serving.wire.search import request_to_proto, result_to_proto
from store import BehaviorStore, ingest
from store.publishing.generation import current_name, swap_current
from store.publishing.manifest import FileEntry, Manifest, name_of
from store.retrieval import SearchRequest
from tests.worlds.datasets import write_dataset
from tests.worlds.search import behavior, candidates_of, write_export

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

NUM_USERS = 8
CATEGORIES = (1, 2, 3, 4)
TAXONOMY = [{"category": 1, "parent": None}, *({"category": each, "parent": 1} for each in CATEGORIES[1:])]
PER_TAG = 40
"""Items of one generation."""


def first_item(tag: int) -> int:
    """Gives the first item of a generation; those of tag 1 are 1001 .. 1040."""
    return 1000 * tag + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A store and an index generation that belong together."""

    tag: int
    store: str
    index: str


@dataclass(slots=True, kw_only=True)
class SearchWorld:
    """Roots with several generations, and the right answers of each."""

    folder: Path
    pairs: list[Pair]
    requests: list[search_pb2.SearchRequest]
    answers: dict[tuple[str, str], list[search_pb2.SearchResponse]]
    """By names of store and index, one for each request."""

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def index(self) -> Path:
        return self.folder / "index"

    def publish(self, pair: Pair) -> None:
        """Makes a pair the current one, the store first."""
        swap_current(self.store, pair.store)
        swap_current(self.index, pair.index)

    def is_right(self, number: int, answer: search_pb2.SearchResponse) -> bool:
        """Says whether an answer is that of one pair, to the bit."""
        expected = self.answers.get((answer.store_generation, answer.index_generation))
        return expected is not None and expected[number] == answer


def make_search_world(folder: Path, rng: random.Random, tags: int = 2) -> SearchWorld:
    """Makes a generation of each for every tag; the first one is current."""
    world = SearchWorld(folder=folder, pairs=[], requests=[], answers={})
    asked = [_request(rng, tags) for _ in range(24)]
    world.requests = [request_to_proto(request) for request in asked]
    for tag in range(1, tags + 1):
        pair = _make_pair(world, rng, tag)
        world.pairs.append(pair)
        with BehaviorStore.open(world.store, pair.store) as store, store.snapshot() as snapshot:
            index, config = IndexGeneration.open(world.index, pair.index), SearchConfig.load()
            world.answers[pair.store, pair.index] = [
                result_to_proto(reference_search(snapshot, index, config, request)) for request in asked
            ]
    world.publish(world.pairs[0])
    return world


def _make_pair(world: SearchWorld, rng: random.Random, tag: int) -> Pair:
    items = range(first_item(tag), first_item(tag) + PER_TAG)
    category = {item: rng.choice(CATEGORIES) for item in items}
    behaviors = [
        behavior(user, rng.choice(items), rng.randrange(1, 10**9), category=None, domain=rng.choice(("ads", "web")))
        for user in range(NUM_USERS)
        for _ in range(rng.randrange(20, 60))
    ]
    data = write_dataset(
        world.folder / f"data-{tag}",
        behaviors=behaviors,
        taxonomy=TAXONOMY,
        items=[{"item": item, "category": category[item]} for item in items],
    )
    ingest(data, world.store, replace=True, keep=10)
    numbers = np.random.default_rng(tag)
    vectors = {each: numbers.normal(size=8).tolist() for each in (*CATEGORIES, *items)}
    export = write_export(
        world.folder / f"model-{tag}",
        {each: vectors[each] for each in CATEGORIES},
        {each: vectors[each] for each in items},
    )
    with BehaviorStore.open(world.store) as store:
        build_index(export, store, world.index)
    return Pair(tag=tag, store=current_name(world.store, "store"), index=current_name(world.index, "index"))


def _request(rng: random.Random, tags: int) -> SearchRequest:
    known = [first_item(tag) + number for tag in range(1, tags + 1) for number in range(PER_TAG)]
    items = rng.sample(known, 5)
    return SearchRequest(
        user=rng.randrange(NUM_USERS + 1),
        as_of_ms=rng.randrange(10**8, 10**9),
        candidates=candidates_of(items, categories=[rng.choice(CATEGORIES) for _ in items]),
    )


def forge(root: Path, name: str, change: str, *, of: str) -> str:
    """Publishes a damaged copy of a generation whose manifest agrees with what it holds; gives its name.

    Args:
        root: Of the store or of the index.
        name: The generation to copy.
        change: What to do to it, one of `FORGERIES`.
        of: File to do it to.
    """
    copy = root / "generations" / f".forged-{name}"
    shutil.copytree(root / "generations" / name, copy)
    extra = FORGERIES[change](copy, of)
    manifest = Manifest.model_validate_json((copy / "manifest.json").read_bytes())
    files = {path: _entry(copy / path) for path in manifest.files if (copy / path).exists()}
    draft = manifest.model_copy(update={"name": "", "files": {**manifest.files, **files, **extra.get("files", {})}})
    meta = {**draft.meta, **extra.get("meta", {})}
    # Made a little later, so that its name is another one even where only the files on the disk differ.
    draft = draft.model_copy(update={"meta": meta, "created_ms": draft.created_ms + 1})
    forged = draft.model_copy(update={"name": name_of(draft)})
    (copy / "manifest.json").write_text(forged.model_dump_json())
    final = root / "generations" / forged.name
    shutil.rmtree(final, ignore_errors=True)
    copy.rename(final)
    swap_current(root, forged.name)
    return forged.name


def _entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _rewrite(path: Path, change) -> dict:
    array = np.load(path)
    np.save(path, change(array))
    return {}


def _with_nan(array):
    array[len(array) // 2] = np.nan
    return array


def _link(path: Path) -> dict:
    target = path.with_name(path.name + ".elsewhere")
    path.rename(target)
    path.symlink_to(target.name)
    return {}


NOTHING = FileEntry(size=0, sha256=hashlib.sha256(b"").hexdigest())

FORGERIES = {
    "NaN": lambda copy, of: _rewrite(copy / of, _with_nan),
    "other dimension": lambda copy, of: _rewrite(copy / of, lambda array: array[:, :, None]),
    "fewer rows": lambda copy, of: _rewrite(copy / of, lambda array: array[:-2]),
    "another type": lambda copy, of: _rewrite(copy / of, lambda array: array.astype(np.float64)),
    "another taxonomy": lambda copy, of: {"meta": {"taxonomy_fingerprint": "0" * 64}},
    "a path upwards": lambda copy, of: {"files": {"../../CURRENT": NOTHING}},
    "an absolute path": lambda copy, of: {"files": {"/etc/hostname": NOTHING}},
    "a path with NUL": lambda copy, of: {"files": {"a\0b": NOTHING}},
    "a symbolic link": lambda copy, of: _link(copy / of),
}
"""What may be wrong though every size and hash is right."""


class Caller:
    """One connection of its own, so that it has a worker of its own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        self.search = search_pb2_grpc.SearchServiceStub(self._channel)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    """Gives a percentile of durations, in milliseconds."""
    return float(np.percentile(seconds, percent) * 1000) if seconds else float("nan")
