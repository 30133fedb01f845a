"""The public surface: an exact list for each package, nothing heavy before it is asked for, and examples that run."""

from __future__ import annotations

import builtins
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from search_stage.config import SearchConfig
from tests.worlds.services import make_world

CHECKOUT = Path(__file__).resolve().parents[2]
EXPORTS = {
    "store": """
        NO_ID NO_LEVEL SOURCE_HARD SOURCE_RECENT SOURCE_SOFT Ancestors AppendResult BadRow BehaviorColumns
        BehaviorStore BuildReport Candidates CorruptGenerationError CorruptRecordError CoverTable
        DeadlineExceededError EventBatch FieldError FieldTable GenerationError InputError LiveWriter LockedError
        LookbackError MapFullError MatchStatistics MissingGenerationError Names OutdatedGenerationError SearchRequest
        SearchResult Section Snapshot StoreClosedError StoreError StoreIOError Taxonomy TooManyBadRowsError TopK
        UserColumns UserView Vocabulary ingest parse_id parse_rows rebuild verify
    """,
    "search_stage": """
        BuildOptions ConfigError CorruptIndexError ExportError FaissMissingError IndexCheckError IndexGeneration
        IndexMismatchError IndexReport SearchConfig SearchError Searcher UnusableIndexError build_index
    """,
    "model_stage": """
        Bundle BundleError BundleMismatchError ConfigError ExplainResult ModelError ParameterGroupError RankClient
        RankRequest RankResult Ranker RankingUnavailableError Recipe Retriever Schema SearchClient
        SearchUnavailableError Targets Trained load_bundle train_bundle
    """,
}
HEAVY = {"pyarrow", "torch", "grpc", "numba", "faiss", "typer", "rich", "sklearn", "prometheus_client", "matplotlib"}
PAGES = [CHECKOUT / "README.md", *CHECKOUT.glob("*/README.md"), *CHECKOUT.glob("docs/**/*.md")]
EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(CHECKOUT)}-{at}")
    for page in sorted(PAGES)
    for at, example in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
]


@pytest.mark.parametrize("package", EXPORTS)
def test_the_list_is_exact_and_every_name_is_there(package):
    module = importlib.import_module(package)
    assert module.__all__ == EXPORTS[package].split()
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = module.Nothing


@pytest.mark.parametrize("package", EXPORTS)
def test_every_error_of_a_package_is_exported(package):
    errors = importlib.import_module(f"{package}.errors")
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    own = {name for name, value in classes.items() if value.__module__ == errors.__name__}
    assert own <= set(EXPORTS[package].split())


@pytest.mark.parametrize("package", EXPORTS)
def test_nothing_heavy_is_imported_before_it_is_asked_for(package):
    code = f"import sys, {package}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_pages_use_exported_names_only(example):
    public = {name for names in EXPORTS.values() for name in names.split()}
    imported = re.findall(r"^(?:from|import) (\S+)", example, flags=re.MULTILINE)
    assert set(imported) <= {*EXPORTS, "pathlib", "numpy"}
    classes = set(re.findall(r"\b([A-Z][a-z]\w+)(?=[.(])", example))
    assert classes <= public | {"Path"} | set(dir(builtins))


def test_the_example_of_the_readme_runs(tmp_path):
    (example,) = re.findall(
        r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    world = make_world(tmp_path / "world")
    (tmp_path / "work").mkdir()
    for name, root in (("store", world.store), ("index", world.index), ("bundles", world.bundle)):
        shutil.move(root, tmp_path / "work" / name)
    (tmp_path / "CONFIG").mkdir()
    (tmp_path / "CONFIG" / "search.yaml").write_text(yaml.safe_dump(SearchConfig().model_dump(mode="json")))
    assert len(re.findall(r"^from (?:store|search_stage|model_stage)\b", example, flags=re.MULTILINE)) == 3
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[\[0\.\d+( +0\.\d+)*\]\]\n", done.stdout), done.stdout
