"""A generated dataset, everything published of it, and a day with new behaviors for the daily job."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import yaml

from model_stage.bundle import load_bundle
from model_stage.ranking.ranker import Ranker
from model_stage.training.impressions import load_impressions, requests_of
from scripts.daily.config import DailyConfig
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import ATTENTION, CONFIGS, build
from search_stage import IndexGeneration, SearchConfig, Searcher
from store import BehaviorStore

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(seed=1, users=20, mean_behaviors=40, requests=80, candidates=(6, 9))
TRAINING = "train: {max_epochs: 1, batch_candidates: 128}\n"
ROOTS = {"store": "store", "index": "index", "attention": ATTENTION, "bundles": "bundles", "work": "daily"}
TABLES = ("taxonomy", "items", "bridges")


def publish_first_day(folder: Path) -> Path:
    """Publishes store, index and a bundle under `work` of a folder; gives the folder."""
    generate(SETTINGS, folder / "data")
    shutil.copytree(CONFIGS / "generated", folder / "config")
    (folder / "config" / "train.yaml").write_text(TRAINING)
    build(folder / "data", folder / "config", folder / "work", lambda *_: None)
    return folder


def next_day(first_day: Path, folder: Path) -> Path:
    """Copies such a folder, with behaviors under `incoming` that the store does not have; gives the copy."""
    shutil.copytree(first_day, folder)
    incoming = folder / "incoming"
    incoming.mkdir()
    for name in TABLES:
        for file in (folder / "data").glob(f"{name}.*"):
            shutil.copy(file, incoming / file.name)
    rows = pq.read_table(folder / "data" / "behaviors.parquet").slice(0, 30)
    earlier = rows.column("timestamp_ms").combine_chunks().to_numpy() - 1
    rows = rows.set_column(rows.schema.get_field_index("timestamp_ms"), "timestamp_ms", [earlier])
    pq.write_table(rows, incoming / "behaviors.parquet")
    return folder


def settings_of(day: Path, **changes: object) -> dict[str, object]:
    """Gives what the job's file says for such a folder: everything passes, unless `changes` says otherwise."""
    paths = {name: day / "work" / folder for name, folder in ROOTS.items()}
    given = {"incoming": day / "incoming", "dataset": day / "data", "config": day / "config"}
    return {**given, **paths, "tolerance": 1.0, "max_calibration_error": 1.0, **changes}


def config_of(day: Path, **changes: object) -> DailyConfig:
    return DailyConfig.model_validate(settings_of(day, **changes))


def write_config(day: Path, **changes: object) -> Path:
    """Writes the job's file; gives it."""
    content = {name: str(v) if name not in changes else v for name, v in settings_of(day).items()}
    content |= {"tolerance": 1.0, "max_calibration_error": 1.0, **changes}
    file = day / "daily.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def serves(day: Path) -> str:
    """Answers a request with what is published, and gives the name of the bundle."""
    job = config_of(day)
    with BehaviorStore.open(job.store) as store:
        bundle = load_bundle(job.bundles)
        index = IndexGeneration.open(job.index)
        index.check_model(bundle.attention_model)
        ranker = Ranker(bundle, Searcher(store, index, SearchConfig.load(job.config)))
        impressions = load_impressions(job.dataset, bundle.schema, bundle.targets.names)
        _, request = next(requests_of(impressions, bundle.schema))
        assert len(ranker.rank(request).probability) == len(request.candidates)
        return bundle.name
