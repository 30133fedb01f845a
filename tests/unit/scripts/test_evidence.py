"""The evidence table on a tiny generated set: what is run, kept, compared and written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.evidence import code, summary
from scripts.evidence import job as jobs
from scripts.evidence.__main__ import main
from scripts.evidence.code import code_digest
from scripts.evidence.configuration import configuration, known_preset
from scripts.evidence.numbers import with_fields
from scripts.evidence.results import Run
from scripts.evidence.sets import EvidenceSet, World, every_set
from scripts.evidence.slices import slices_of
from scripts.generate.dataset import Settings, generate
from scripts.pipeline import CONFIGS
from store.command import command_line, run
from store.errors import InputError

SETTINGS = Settings(seed=1, users=12, mean_behaviors=30, requests=50, candidates=(5, 8), world="needle")
TINY = ("popularity_52", "popularity", "tin", "trees")
TRAINING = "train: {max_epochs: 1, batch_candidates: 128}\n"


class Killed(BaseException):
    """Stands for a signal."""


def absent(out: Path) -> None:
    raise InputError("no originals here")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture
def tiny(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = work / "config"
    if not config.exists():
        shutil.copytree(CONFIGS / "worlds", config)
        (config / "train.yaml").write_text(TRAINING)
    one = EvidenceSet(
        name="needle",
        config=str(config),
        presets=(*TINY, "no_such"),
        seeds=(0, 1),
        made_by=generate.__module__,
        make=partial(generate, SETTINGS),
        world=World(made_for="tin", without=("popularity",)),
    )
    known = {one.name: one, "gone": replace(one, name="gone", make=absent, world=None)}
    for module in ("__main__", "report"):
        monkeypatch.setattr(f"scripts.evidence.{module}.every_set", lambda: known)
    return work


def evidence(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evidence", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run(command_line(None, main))
    return int(ended.value.code or 0)


def test_the_table_is_made_run_by_run_and_goes_on_where_it_was_killed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, str, int]] = []
    make = jobs.Job.make

    def killed_at(number: int, job: jobs.Job, *rest: object) -> Run:
        if len(made) == number:
            raise Killed
        made.append(job.name)
        return make(job, *rest)

    asked = ("--resume", "--work", tiny / "work", "--out", tmp_path / "table.md")
    monkeypatch.setattr(jobs.Job, "make", lambda job, *rest: killed_at(2, job, *rest))
    with pytest.raises(Killed):
        evidence(monkeypatch, *asked)
    assert not (tmp_path / "table.md").exists() or not (tmp_path / "table.md").read_text()
    monkeypatch.setattr(jobs.Job, "make", lambda job, *rest: killed_at(-1, job, *rest))
    assert evidence(monkeypatch, *asked) == 0
    assert made == [("needle", preset, seed) for seed in (0, 1) for preset in TINY]
    assert evidence(monkeypatch, *asked) == 0
    assert len(made) == 8, "finished runs are kept"
    assert len(list((tiny / "work" / "runs").iterdir())) == 8

    capsys.readouterr()
    content = json.loads((tmp_path / "table.json").read_text())
    assert len(content["rows"]) == 16
    assert {tuple(row) for row in content["rows"]} == {("set", "preset", "target", "seed", "auc", "gauc", "logloss")}
    assert any("no_such" in what for what in content["left_out"])
    assert any("gone: no originals here" in what for what in content["left_out"])
    recall = content["sets"]["needle"]["needle_recall"]
    assert recall.keys() == {"click", "purchase"}
    # One of the users has 20,000 behaviors: not all that decides is among the newest 50 of a kind.
    assert all(0 < share <= 1 for share in recall.values())
    text = (tmp_path / "table.md").read_text()
    assert "of the needles of click" in text
    for file in tmp_path.glob("*.png"):
        assert file.name in text
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert "the preset made for this world" in text.lower()
    assert max(map(len, (line for line in text.splitlines() if not line.startswith(("|", "!"))))) <= 120


def test_retrieval_is_done_once_for_presets_and_seeds(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evidence(monkeypatch, "--resume", "--work", tiny / "work") == 0
    (folder,) = (tiny / "work" / "needle").glob("*/shared.json")
    kept = [path for path in (folder.parent / "examples").iterdir() if (path / "test").is_dir()]
    # Those of `popularity_52` have more fields.
    assert len(kept) == 2
    for examples in kept:
        assert {split: len([*(examples / split / "generations").iterdir()]) for split in ("train", "test")} == {
            "train": 1,
            "test": 1,
        }


def test_no_run_of_other_code_is_reported_unless_asked(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evidence(monkeypatch, "--resume", "--work", tiny / "work") == 0
    key = jobs.Job.key.fget
    monkeypatch.setattr(jobs.Job, "key", property(lambda job: f"other {key(job)}"))
    asked = ("--report-only", "--work", tiny / "work")
    capsys.readouterr()
    assert evidence(monkeypatch, *asked) == 0
    assert "8 of 8 runs are not finished" in capsys.readouterr().out
    assert evidence(monkeypatch, *asked, "--any-code") == 0
    shown = capsys.readouterr().out
    assert "not finished" not in shown
    assert "8 of the runs were made by earlier code" in shown


def test_a_run_that_fails_leaves_the_others_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("scripts.evidence.network.run_network", fails)
    assert evidence(monkeypatch, "--resume", "--work", tmp_path, "--seeds", "0", "--presets", "tin,trees") == 0
    shown = capsys.readouterr().out
    assert "needle, tin, seed 0: ValueError: broken" in shown
    assert "│ trees" in shown


@pytest.mark.parametrize(
    ("option", "value", "said"), [("--sets", "no_such", "'no_such' is none of"), ("--seeds", "x", "'x' is no number")]
)
def test_what_is_no_set_or_seed_is_refused(
    option: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert evidence(monkeypatch, option, value, "--work", tmp_path) == 2
    assert said in capsys.readouterr().err


def test_the_sets_ask_for_configurations_that_there_are() -> None:
    for one in every_set().values():
        configuration(CONFIGS / one.config)
        for preset in one.presets:
            if preset != "trees" and known_preset(CONFIGS / one.config, preset):
                assert configuration(CONFIGS / one.config, preset).recipe.model.network.preset.name == preset


def test_a_folder_of_a_preset_replaces_files_of_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS / "worlds", tmp_path / "config")
    (tmp_path / "config" / "mine").mkdir()
    (tmp_path / "config" / "mine" / "train.yaml").write_text(
        "network: {preset: {name: mine, summary: one block, blocks: [{kind: pool}]}}\n"
    )
    base, mine = (configuration(tmp_path / "config", name) for name in ("tin", "mine"))
    assert mine.recipe.model.network.preset.name == "mine"
    assert mine.recipe.schema == base.recipe.schema
    assert mine.search_digest == base.search_digest
    assert mine.digest != base.digest
    assert base.with_seed(7).model.train.seed == 7


def test_the_hand_made_numbers_are_fields_and_columns(tiny: Path) -> None:
    used = configuration(tiny / "config", "popularity")
    more = with_fields(used)
    (data,) = (tiny / "work" / "needle").glob("data-*_52-*")
    table = pq.read_table(data / "impressions.parquet")
    plain = pq.read_table(data.with_name(data.name.partition("_52")[0]) / "impressions.parquet")
    added = [field.name for field in more.recipe.schema.fields[len(used.recipe.schema.fields) :]]
    assert table.column_names == [*plain.column_names, *added]
    assert len(added) == 52
    assert table["cosine"].to_numpy().any()


def run_of(preset: str, seed: int, auc: float, drawn: list[float]) -> Run:
    return Run(
        set="s",
        preset=preset,
        seed=seed,
        key="",
        made="",
        metrics={"t": {"auc": auc, "gauc": auc, "logloss": 0.1}},
        resampled={"t": {"auc": drawn, "gauc": drawn}},
        slices={},
        cost={"train_s": 1.0},
        more={},
    )


def test_differences_are_paired_by_seed_and_by_draws_of_users() -> None:
    runs = [
        run_of("popularity", 0, 0.5, [0.4, 0.6]),
        run_of("popularity", 1, 0.7, [0.6, 0.8]),
        run_of("tin", 0, 0.6, [0.5, 0.8]),
        run_of("tin", 1, 0.9, [0.8, 1.0]),
        run_of("tin", 2, 0.1, [0.0, 0.0]),
    ]
    (auc, _) = summary.differences_of(summary.grouped(runs)["s"])
    assert (auc["preset"], auc["reference"], auc["metric"], auc["seeds"]) == ("tin", "popularity", "auc", [0, 1])
    assert auc["mean"] == pytest.approx(0.15)
    # Differences .1 and .2: their standard error is .05, and Student's t of one degree of freedom 12.706.
    assert auc["over_seeds"] == pytest.approx([0.15 - 0.05 * 12.7062, 0.15 + 0.05 * 12.7062], abs=1e-4)
    # Mean differences of the draws: (.1 + .2) / 2 and (.2 + .2) / 2.
    assert auc["over_users"] == pytest.approx(np.quantile([0.15, 0.2], [0.025, 0.975]).tolist())


def test_the_way_to_the_ceiling_begins_at_the_best_preset_without_the_mechanism() -> None:
    runs = [run_of(name, 0, auc, [auc]) for name, auc in (("a", 0.6), ("b", 0.7), ("tin", 0.8), ("trees", 0.65))]
    truth = {"t_auc_ceiling": 0.9, "t_auc_ceiling_without_needle": 0.5}
    rows = summary.world_of(summary.grouped(runs)["s"], World(made_for="tin", without=("a", "b")), truth)
    found = {row["preset"]: row for row in rows}
    assert found["tin"]["without"] == "b"
    assert found["tin"]["closed"] == pytest.approx(0.5)
    assert found["tin"]["of_mechanism"] == pytest.approx(0.75)
    assert [row["preset"] for row in rows if row["made_for"]] == ["tin"]
    assert summary.trees_share(rows) == {"t": pytest.approx(0.375)}


def test_slices_cover_the_test_split(tiny: Path) -> None:
    data = next((tiny / "work" / "needle").glob("data-*"), None) or tiny / "slices"
    if not data.exists():
        generate(SETTINGS, data)
    slices = slices_of(data)
    for kind in ("history length", "age of the last match", "match level", "item", "user"):
        of_kind = [rows.astype(int) for name, rows in slices.items() if name.startswith(f"{kind}: ")]
        assert of_kind, kind
        assert (sum(of_kind) == 1).all(), kind
    assert slices["match level: 0"].any()
    assert slices["match level: 1"].any()
    assert slices["match level: no match"].sum() == slices["age of the last match: no match"].sum() > 0


def forget() -> None:
    for cached in (code.code_digest, code._parsed, code._content):
        cached.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = {
        "scripts/__init__.py": "",
        "scripts/start.py": """
            '''A run.'''
            from typing import TYPE_CHECKING
            from store import thing
            if TYPE_CHECKING:
                from store.typed import Typed
            def late():
                from store import late
            """,
        "store/__init__.py": "",
        "store/__init__.pyi": "from store.lazy import thing as thing\n",
        "store/lazy.py": "import numpy\nfrom store.cli import shown\nthing = 1  # one\n",
        "store/late.py": "late = 1\n",
        "store/typed.py": "Typed = int\n",
        "store/other.py": "other = 1\n",
        "store/cli/__init__.py": "shown = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix("            ") for line in text.splitlines()) + "\n")
    monkeypatch.setattr(code, "CHECKOUT", tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize(
    ("file", "change", "counts"),
    [
        ("store/lazy.py", ("thing = 1", "thing = 2"), True),
        ("store/late.py", ("late = 1", "late = 2"), True),
        ("store/lazy.py", ("# one", "# two"), False),
        ("scripts/start.py", ("A run.", "Some run."), False),
        ("store/typed.py", ("int", "str"), False),
        ("store/other.py", ("1", "2"), False),
        ("store/cli/__init__.py", ("1", "2"), False),
    ],
)
def test_what_a_run_imports_is_what_its_code_is(
    checkout: Path, file: str, change: tuple[str, str], counts: bool
) -> None:
    before = code_digest("scripts.start")
    path = checkout / file
    path.write_text(path.read_text().replace(*change))
    assert code_digest("scripts.start") == before, "a process answers the same until it ends"
    forget()
    assert (code_digest("scripts.start") != before) is counts


def test_a_change_of_the_trees_makes_no_run_of_a_network_void() -> None:
    found = code._Closure().over(["scripts.evidence.network", "model_stage.blocks.tin"])
    assert "model_stage.blocks.tin" in found
    assert "search_stage.hard.hard_kernels" in found
    assert "model_stage.blocks.hstu" not in found
    assert not [name for name in found if name.startswith("scripts.baselines")]
