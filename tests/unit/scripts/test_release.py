"""The list of what a release is made of, and what an audit's answers mean."""

from __future__ import annotations

import importlib.metadata

import pytest

from scripts.checks.release import needed, problems_of, pruned

REQUIRES = {
    "lookback": ["Grpc>=1", "faiss-cpu; extra == 'cpu'", "ruff; extra == 'dev'", "old; python_version < '3'"],
    "grpc": ["wire[fast]>=2", "docs; extra == 'docs'"],
    "wire": ["base", "quick; extra == 'fast'", "slow; extra == 'slow'"],
    "base": None,
    "quick": ["base"],
    "faiss-cpu": ["base"],
}
NEEDS = {
    "lookback": {"grpc", "faiss-cpu"},
    "grpc": {"wire"},
    "wire": {"base", "quick"},
    "base": set(),
    "quick": {"base"},
    "faiss-cpu": {"base"},
}


def test_what_a_user_gets_is_followed_through_the_extras_that_are_asked_for():
    assert needed(REQUIRES.__getitem__) == NEEDS


def test_of_a_real_installation_tools_of_developers_are_left_out():
    names = needed(importlib.metadata.requires).keys()
    assert {"grpcio", "torch", "faiss-cpu", "pydantic", "pydantic-core"} <= names
    assert not {"pytest", "ruff", "matplotlib", "trustme", "mypy"} & names


def test_a_list_keeps_what_is_needed_and_what_needs_it():
    components = [
        {"bom-ref": f"{name}==1", "name": name} for name in ("Grpc", "wire", "base", "quick", "ruff", "faiss_cpu")
    ]
    bom = {"metadata": {"component": {"bom-ref": "root"}}, "components": components, "dependencies": [], "version": 1}
    made = pruned(bom, NEEDS)
    assert [each["name"] for each in made["components"]] == ["base", "faiss_cpu", "Grpc", "quick", "wire"]
    needs = {each["ref"]: each.get("dependsOn") for each in made["dependencies"]}
    assert needs["root"] == ["Grpc==1", "faiss_cpu==1"]
    assert needs["wire==1"] == ["base==1", "quick==1"]
    assert needs["base==1"] is None
    assert made["version"] == 1
    with pytest.raises(KeyError, match="grpc"):
        pruned({**bom, "components": components[1:]}, NEEDS)


def test_holes_and_silence_are_problems():
    fine = {"name": "grpcio", "version": "1", "vulns": []}
    hole = {"name": "wire", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3"]}]}
    skipped = {"name": "base", "skip_reason": "Dependency not found on PyPI"}
    assert problems_of([fine], 1) == []
    assert problems_of([fine, hole], 2) == ["wire 2: PYSEC-1, mended in 2.1, 3"]
    assert "nothing is known about 1 of 2 packages, as base" in problems_of([fine, skipped], 2)[0]
    assert "nothing is known about 1 of 2 packages" in problems_of([fine], 2)[0]
