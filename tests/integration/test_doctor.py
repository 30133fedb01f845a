"""`lookback-model doctor`: every fault is found, named, and comes with what mends it; a sound installation has none."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import time
from collections import namedtuple
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app, checkup, fitting
from model_stage.cli.checkup import Installation
from model_stage.serving.server import ranking_server
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from serving import ClientSecurity, ServeOptions
from serving.security.tls import TlsFiles
from store.building.ingest import ingest
from tests.worlds.services import publish_bundle, publish_index

Usage = namedtuple("Usage", "total used free")


def wrong(findings) -> dict[str, tuple[str, str]]:
    return {each.check: (each.found, each.mend) for each in findings if not each.sound}


@pytest.fixture
def at(own_world):
    return Installation(store=own_world.store, index=own_world.index, bundle=own_world.bundle)


def test_a_sound_installation_passes_every_check(world):
    with (
        search_server(world.store, world.index, SearchConfig.load(), ServeOptions()) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions()) as ranking,
    ):
        services = ["--search", f"127.0.0.1:{search.port}", "--server", f"127.0.0.1:{ranking.port}"]
        roots = ["--store", str(world.store), "--index", str(world.index), "--bundle", str(world.bundle)]
        run = CliRunner().invoke(app, ["doctor", *roots, *services, "--json", "-"])
    said = json.loads(run.output)
    assert (run.exit_code, [each for each in said["findings"] if not each["sound"]]) == (0, [])
    checks = {each["check"] for each in said["findings"]}
    assert checks >= {"versions", "store", "index", "bundle", "bundle and store", "search configuration", "open files"}
    assert checks >= {"search serves", "ranking serves", "ranking's search", "clock", "clock of search"}


def test_something_wrong_is_exit_status_1_with_its_remedy(tmp_path):
    run = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path / "none")], env={"COLUMNS": "400"})
    assert run.exit_code == 1
    assert f"lookback-store verify --store {tmp_path / 'none'}" in run.output
    assert "checks found something wrong" in run.output


def test_packages_that_are_absent_too_old_or_both(monkeypatch):
    known = {"numpy": "1.0", "lookback": "0.1.0", "faiss-cpu": "1.14.3", "faiss-gpu": "1.14.3"}

    def version(name):
        if name not in known:
            raise checkup.importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(checkup.importlib.metadata, "version", version)
    monkeypatch.setattr(
        checkup.importlib.metadata, "requires", lambda name: ["numpy>=2.0", "lmdb>=1.5", "x; extra=='y'"]
    )
    found = [(each.found, each.mend) for each in checkup.check_versions() if not each.sound]
    assert found[:2] == [
        ("numpy 1.0, >=2.0 is needed", "pip install 'numpy>=2.0'"),
        ("lmdb is not installed, >=1.5 is needed", "pip install 'lmdb>=1.5'"),
    ]
    assert found[2][0].startswith("faiss-cpu and faiss-gpu installed")
    assert len(found) == 3


def test_an_index_of_another_model_and_a_store_of_another_tree(at, own_world):
    publish_bundle(own_world, seed=1)
    found = wrong(fitting.check_artefacts(at))
    assert found.keys() == {"index"}
    assert found["index"][1].startswith("lookback-search build-index --store")
    publish_index(own_world)
    assert wrong(fitting.check_artefacts(at)) == {}
    taxonomy = own_world.folder / "data" / "taxonomy.csv"
    taxonomy.write_text(taxonomy.read_text() + "nails,tools,Nails\n")
    ingest(own_world.folder / "data", own_world.store, replace=True)
    assert wrong(fitting.check_artefacts(at)).keys() == {"index"}


def test_damaged_artefacts_and_configuration(at, tmp_path):
    (at.bundle / "CURRENT").write_text("nonsense")
    shutil.rmtree(at.store / "generations")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "search.yaml").write_text("recent: {top_k: -1}")
    found = wrong(fitting.check_artefacts(replace(at, config=tmp_path / "config")))
    assert found.keys() == {"configuration", "bundle", "store"}
    assert "recent.top_k" in found["configuration"][0]


def test_search_configured_otherwise_than_in_training(at, own_world, tmp_path):
    trained = {"search": json.loads(SearchConfig.model_validate({"recent": {"top_k": 3}}).configuration)}
    made = load_bundle(own_world.bundle).provenance.model_copy(update=trained)
    publish_bundle(own_world, seed=0, provenance=made)
    publish_index(own_world)
    found = wrong(fitting.check_artefacts(at))
    assert found.keys() == {"search configuration"}
    assert found["search configuration"][0] == "recent.top_k: trained with 3, is 20"


def test_services_that_are_down_serve_something_old_or_whose_clock_is_behind(at, own_world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        down = wrong(fitting.check_services(replace(at, search=nobody, server=nobody), ClientSecurity(), time.time()))
        assert down.keys() == {f"search at {nobody}", f"ranking at {nobody}"}
        assert wrong(checkup.check_ports([taken.getsockname()[1]]))
    with (
        search_server(own_world.store, own_world.index, SearchConfig.load(), ServeOptions(watch_s=0)) as search,
        ranking_server(own_world.bundle, nobody, ServeOptions(watch_s=0)) as ranking,
    ):
        publish_bundle(own_world, seed=1)
        publish_index(own_world)
        asked = replace(at, search=f"127.0.0.1:{search.port}", server=f"127.0.0.1:{ranking.port}")
        found = wrong(fitting.check_services(asked, ClientSecurity(), time.time() + 3600))
    assert found.keys() == {"search serves", "clock of search", "ranking serves", "ranking's search"}
    assert "is published" in found["ranking serves"][0]


def test_what_was_published_later_than_now_is_a_wrong_clock(at):
    found = wrong(checkup.check_clock(at, time.time() - 7200))
    assert "hours from now" in found["clock"][0]
    assert wrong(checkup.check_clock(at, time.time())) == {}


def test_certificates_and_tokens_that_end_or_cannot_be_read(tmp_path):
    trustme = pytest.importorskip("trustme")
    ends = datetime.now(UTC) + timedelta(days=30)
    made = trustme.CA().issue_cert("localhost", not_after=ends)
    tls = TlsFiles(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", client_ca=None)
    made.cert_chain_pems[0].write_to_path(tls.cert)
    made.private_key_pem.write_to_path(tls.key)
    now_s = time.time()
    assert wrong(checkup.check_certificates(tls, None, now_s)) == {}
    (tmp_path / "tokens").write_text("# none\n")
    later = wrong(checkup.check_certificates(tls, tmp_path / "tokens", now_s + 20 * 86_400))
    assert later.keys() == {"certificate", "tokens"}
    tls.key.write_text("no key")
    assert "key.pem" in str(wrong(checkup.check_certificates(tls, tmp_path / "absent", now_s)))


def test_a_full_disk_and_low_limits(at, monkeypatch):
    assert wrong(checkup.check_disk(at)) == {}
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda path: Usage(1000, 999, 1))
    assert wrong(checkup.check_disk(at)).keys() == {"disk of the store", "disk of the index", "disk of the model"}
    limits = {resource.RLIMIT_NOFILE: (256, 256), resource.RLIMIT_AS: (1 << 30, 1 << 30)}
    monkeypatch.setattr(checkup.resource, "getrlimit", limits.__getitem__)
    found = wrong(checkup.check_limits())
    assert found.keys() >= {"open files", "address space"}
    assert "ulimit -n" in found["open files"][1]
