"""The real data sets go through the store and back: converted, checked, ingested, exported, ingested again."""

from pathlib import Path

import pytest

from scripts.datasets import globo_news, movielens
from scripts.datasets.complete_journey import convert as complete_journey
from store import BehaviorStore, ingest, verify
from store.operations.export import export
from store.operations.taxonomy_check.check import check_dataset

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = {
    "movielens_latest_small": (movielens.convert, 104_519, 610),
    # 13 redemptions equal another one of the same household, coupon and day.
    "complete_journey": (complete_journey.convert, 108_678, 2_406),
    "globo_news": (globo_news.convert, 2_988_181, 322_897),
}


@pytest.mark.parametrize(
    "name",
    [
        "movielens_latest_small",
        pytest.param("complete_journey", marks=pytest.mark.slow),
        pytest.param("globo_news", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_export_and_ingest_again_give_the_identical_digest(name, tmp_path):
    if not (DATA / name).is_dir():
        pytest.skip(f"the real files are not at {DATA / name}")
    convert, num_behaviors, num_users = SETS[name]
    convert(DATA / name, tmp_path / "in")
    assert check_dataset(tmp_path / "in").num_errors == 0
    ingest(tmp_path / "in", tmp_path / "store")
    report = verify(tmp_path / "store")
    assert (report.num_behaviors, report.num_users) == (num_behaviors, num_users)
    with BehaviorStore.open(tmp_path / "store") as store, store.snapshot() as snapshot:
        exported = export(snapshot, tmp_path / "out")
    assert (exported.num_behaviors, exported.num_users) == (num_behaviors, num_users)
    ingest(tmp_path / "out", tmp_path / "again")
    assert verify(tmp_path / "again").digest == report.digest
