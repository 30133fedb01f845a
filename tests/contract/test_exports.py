"""The public surface: an exact list for each package, nothing heavy before it is asked for, and examples that run."""

from __future__ import annotations

import ast
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
LIGHT = {
    "store": """
        Ancestors AppendResult BadRow BehaviorColumns BehaviorStore Candidates CorruptGenerationError
        CorruptRecordError CoverTable DeadlineExceededError EventBatch FieldError FieldTable GenerationError InputError
        LiveWriter LockedError LookbackError MapFullError MatchStatistics MissingGenerationError NO_ID NO_LEVEL Names
        OutdatedGenerationError SOURCE_HARD SOURCE_RECENT SOURCE_SOFT SearchRequest SearchResult Section Snapshot
        StoreClosedError StoreError StoreIOError Taxonomy TooManyBadRowsError TopK UserColumns UserView Vocabulary
        parse_id parse_rows
    """,
    "serving": """
        Call CallerGoneError CallerLimitError CircuitOpenError ClientClosedError ClientSecurity DrainingError
        ForbiddenError LARGEST_MESSAGE_BYTES LARGEST_SMALL_MESSAGE_BYTES NotOfferedError OverloadedError RelayedError
        Role ServeOptions ServingError UnauthenticatedError UnreadableAnswerError WorkerSlot current_call for_role
        lap takes_up_to
    """,
    "search_stage": """
        ConfigError CorruptIndexError ExportError FaissMissingError IndexCheckError IndexMismatchError SearchConfig
        SearchError SearchServiceError UnusableIndexError
    """,
    "model_stage": """
        BundleError BundleMismatchError ConfigError ExplainResult ModelError ParameterGroupError RankRequest RankResult
        RankingUnavailableError Retriever Schema SearchUnavailableError Targets
    """,
}
"""What brings nothing heavy with it: a server that only reads has no use for what builds."""
OTHERS = {
    "store": "BuildReport ingest rebuild verify",
    "serving": """
        Admission BulkHistogram COMMON_ROWS Priority Reloadable Row Server ServerMetrics Service Siblings StatusTable
        Supervisor Swaps WorkerSpec make_logger request_units run_until_terminated run_worker serve_with_workers
    """,
    "search_stage": """
        AsyncSearchClient BuildOptions IndexGeneration IndexReport SearchClient Searcher build_index
    """,
    "model_stage": "AsyncRankClient Bundle RankClient Ranker Recipe RemoteRetriever Trained load_bundle train_bundle",
}
EXPORTS = {package: sorted(f"{LIGHT[package]} {OTHERS[package]}".split()) for package in LIGHT}
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
    assert module.__all__ == EXPORTS[package]
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
    with pytest.raises(AttributeError, match="attribute Nothing"):
        _ = module.Nothing


@pytest.mark.parametrize("package", EXPORTS)
def test_every_error_of_a_package_is_exported(package):
    errors = importlib.import_module(f"{package}.errors")
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    own = {name for name, value in classes.items() if value.__module__ == errors.__name__}
    assert own <= set(EXPORTS[package])


@pytest.mark.parametrize("package", EXPORTS)
def test_nothing_heavy_is_imported_before_it_is_asked_for(package):
    names = ", ".join(LIGHT[package].split())
    code = f"import sys; from {package} import {names}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", EXPORTS)
def test_no_module_goes_through_what_its_own_package_offers(package):
    """Such an import would reach every layer of the package, and the import linter does not look into a stub."""
    for path in sorted((CHECKOUT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == package:
                assert not {alias.name for alias in node.names} & set(EXPORTS[package]), path


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_pages_use_exported_names_only(example):
    public = {name for names in EXPORTS.values() for name in names}
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
