"""The command that compiles ahead: when an image is built, or once before many processes start side by side."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors.numpy import save_file

from search_stage.config import AgeBonus, SearchConfig, SoftConfig, StatisticsConfig
from search_stage.index.build import BuildOptions, build_index
from search_stage.index.generation import IndexGeneration
from search_stage.searcher import Searcher
from store.behavior_store import BehaviorStore
from store.building.ingest import ingest
from store.terminal import bar, say
from store.types import parse_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from search_stage.index.layout import VectorType
    from store.types import AnyArray

DTYPES: Final[tuple[VectorType, ...]] = ("float32", "float16", "bfloat16")

_NUM_ITEMS = 32
_DIM = 8


def compile() -> None:
    """Compile all kernels of search and of the index build, for images and machines that shall not do it at a start."""
    started_s = time.monotonic()
    with bar("compile") as progress:
        precompile_kernels(progress)
    say(f"compiled, or found compiled, in {time.monotonic() - started_s:.1f} s")


def precompile_kernels(progress: Callable[[float], None]) -> None:
    """Makes a store and indexes of a few rows in a folder that goes away again, and searches in them.

    What was compiled stays, beside the source or in the user's cache folder; a second call takes a second.

    Args:
        progress: Called with the share that is done, 0 to 1.

    Raises:
        store.errors.StoreIOError: There is no room for temporary files.
    """
    soft = SoftConfig(top_k=4, time_term=(AgeBonus(max_age_days=1, add=1),))
    statistics = StatisticsConfig(half_life_days=(None,))
    configs = [
        SearchConfig(soft=soft.model_copy(update={"approximate_from": least}), statistics=statistics)
        for least in (None, 1)
    ]
    with tempfile.TemporaryDirectory(prefix="lookback-") as name:
        folder = Path(name)
        _write_dataset(folder / "data")
        _write_export(folder / "export")
        ingest(folder / "data", folder / "store")
        with BehaviorStore.open(folder / "store") as store:
            for number, dtype in enumerate(DTYPES):
                for is_again in (False, True):  # clusters are kept the second time
                    build_index(folder / "export", store, folder / dtype, BuildOptions(dtype=dtype, full=not is_again))
                for config in configs:
                    Searcher(store, IndexGeneration.open(folder / dtype), config)
                progress((number + 1) / len(DTYPES))


def _write_dataset(folder: Path) -> None:
    tables = {
        "taxonomy.csv": ["category,parent,name", "root,,Root", "leaf,root,Leaf"],
        "items.csv": ["item,category,covers", *(f"i{item},leaf,i{item + 1}" for item in range(_NUM_ITEMS))],
        "behaviors.csv": [
            "user,item,category,domain,action,timestamp_ms",
            *(f"u{row % 2},i{row % _NUM_ITEMS},leaf,ads,click,{row}" for row in range(4 * _NUM_ITEMS)),
        ],
    }
    folder.mkdir()
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_export(folder: Path) -> None:
    generator = np.random.default_rng(1)
    tensors: dict[str, AnyArray] = {}
    for part, names in (("category", ("root", "leaf")), ("item", tuple(f"i{item}" for item in range(_NUM_ITEMS)))):
        tensors[f"{part}_ids"] = np.array([parse_id(name) for name in names], np.uint64).view(np.int64)
        tensors[f"{part}_vectors"] = generator.standard_normal((len(names), _DIM), np.float32)
    folder.mkdir()
    save_file(tensors, folder / "attention.safetensors")
