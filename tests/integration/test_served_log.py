"""What is served is kept: replayed to the bit with live events between, and read as a dataset of impressions."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from model_stage.bundle import load_bundle
from model_stage.cli import app
from model_stage.serving.convert import request_to_proto
from model_stage.serving.options import RankingOptions
from model_stage.serving.rank_client import RankClient
from model_stage.serving.served_log.labels import join_labels
from model_stage.serving.served_log.reader import read_requests, request_files
from model_stage.serving.server import ranking_server
from model_stage.training.pipeline import Recipe, train_bundle
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.ranking.v1 import ranking_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage import warm_up
from search_stage.config import SearchConfig
from search_stage.retrieve import retrieve
from search_stage.searcher import Searcher
from search_stage.serving.server import search_server
from serving import ServeOptions
from store import BehaviorStore, rebuild
from store.dataset.impressions import read_impressions
from store.errors import InputError, TooManyBadRowsError
from store.types import NO_ID, parse_id
from tests.worlds.calls import events
from tests.worlds.services import AS_OF_MS, DAY_MS, candidates, publish_bundle
from tests.worlds.workers import connections, ranking_workers_process

SHARE_ALL = 1.0
TEA = parse_id("t1")


def asked(user, number=0, **changes):
    return RankRequest(
        **{
            "user": parse_id(f"u{user}"),
            "as_of_ms": AS_OF_MS - number,
            "candidates": candidates("a1", "c1", "s1", "a3"),
            "context_fields": {"hour": np.array([number % 24], np.float32)},
            **changes,
        }
    )


class Services:
    """Both stages in this process; `log` is where what is served is kept."""

    def __init__(self, world, folder, stack, **options):
        self.log = folder / "log"
        search_options = ServeOptions()
        search = stack.enter_context(
            search_server(world.store, world.index, SearchConfig.load(), search_options, append=True)
        )
        wanted = RankingOptions(
            **{"experiments": ("new",), "served_log": self.log, "served_share": SHARE_ALL, **options}
        )
        self.ranking = stack.enter_context(
            ranking_server(world.bundle, f"127.0.0.1:{search.port}", ServeOptions(metrics_port=0), wanted)
        )
        self.client = stack.enter_context(RankClient(f"127.0.0.1:{self.ranking.port}"))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{search.port}"))
        self.search = search_pb2_grpc.SearchServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        own = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{self.ranking.port}"))
        self.ranking_admin = admin_pb2_grpc.AdminServiceStub(own)

    def append(self, user, age_ms, **more):
        answer = self.search.Append(events([parse_id(f"u{user}")], [TEA], [AS_OF_MS - age_ms], **more), timeout=10)
        assert answer.refusals == []


@contextmanager
def serving(world, folder, **options):
    with ExitStack() as stack:
        yield Services(world, folder, stack, **options)


def replayed(world, log, *more):
    out = log / "report.json"
    roots = ["--bundle", world.bundle, "--store", world.store, "--index", world.index]
    result = CliRunner().invoke(app, ["replay", *map(str, (log, *roots, "--json", out, *more))])
    assert out.exists(), result.output
    return result, json.loads(out.read_text())


def test_what_was_served_is_scored_again_to_the_bit(own_world, tmp_path):
    """With live events between requests, for the same users; with a new bundle, and a rebuild of the store, between."""
    world = own_world
    with serving(world, tmp_path) as services:
        for number in range(12):
            services.append(number % 3, 2000 + number, domain=("ads", f"d{number}")[number % 2])
            services.client.rank(asked(number % 4, number, experiment="new" if number % 2 else ""))
        publish_bundle(world, seed=7)
        services.ranking_admin.Reload(admin_pb2.ReloadRequest(), timeout=60)
        degraded = services.client.rank(asked(1, 3))  # the index is of the bundle before
        assert degraded.degraded
        rebuild(world.store, keep=2)
        services.append(0, 5)
        services.admin.Reload(admin_pb2.ReloadRequest(), timeout=60)
        services.client.rank(asked(0, 4, targets=("buy",), candidates=candidates("a2", "")))
    result, report = replayed(world, services.log)
    assert result.exit_code == 0, result.output
    assert (report["num_replayed"], report["num_same"], report["num_different"]) == (14, 14, 0)
    assert report["num_live"] == 12
    assert report["num_unreachable"] == 0
    two, again = replayed(world, services.log, "--processes", "2")
    assert (two.exit_code, again) == (0, report)


def test_a_difference_is_reported_by_request_and_by_what_differs(own_world, tmp_path):
    with serving(own_world, tmp_path) as services:
        for number in range(3):
            services.append(0, 20 + number)
            services.client.rank(asked(0, number))
    (file,) = request_files(services.log)
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[1]["probability"][0] = np.nextafter(np.float32(rows[1]["probability"][0]), np.float32(1))
    rows[2]["delta_sequence"] -= 1  # as if it had not seen the last event
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    ids = [row["request_id"] for row in rows]
    result, report = replayed(own_world, services.log)
    assert result.exit_code == 1
    assert report["num_same"] == 1
    by_id = {each["request_id"]: each for each in report["differences"]}
    assert by_id[ids[1]]["what"] == ["probability"]
    assert 0 < by_id[ids[1]]["largest"] < 1e-6
    assert {"behaviors.item", "num_behaviors", "delta_sequence"} <= set(by_id[ids[2]]["what"])


def test_what_is_gone_is_said_and_is_no_difference(own_world, tmp_path):
    world = own_world
    with serving(world, tmp_path) as services:
        services.append(5, 9)
        services.append(6, 9)
        services.client.rank(asked(5))
        services.client.rank(asked(6))
        services.search.DeleteUser(search_pb2.DeleteUserRequest(user=parse_id("u5")), timeout=10)
        services.client.rank(asked(5))  # after the deletion: there is nothing, and that can be asked again
    result, report = replayed(world, services.log)
    assert (result.exit_code, report["num_same"]) == (0, 2)
    assert report["unreachable"] == {"the user was deleted since": 1}
    rebuild(world.store, keep=1)
    result, report = replayed(world, services.log)
    assert (result.exit_code, report["num_replayed"]) == (1, 0)
    assert sum(report["unreachable"].values()) == 3


def test_the_log_is_a_dataset_of_impressions(own_world, tmp_path):
    """Rows are candidates, fields are what the network has read, whether the request or the store gave them."""
    prices = {"price": np.array([9.5, np.nan, 3.0, np.nan], np.float32)}
    with serving(own_world, tmp_path) as services:
        answers = [services.client.rank(asked(3, number, candidate_fields=prices)) for number in (1, 2)]
        services.client.rank(asked(3, 4, candidates=candidates("a1", "")))
    impressions = read_impressions(services.log)
    order = np.argsort(impressions.timestamp_ms[:8], kind="stable")[::-1]
    assert len(impressions) == 9  # an ad without an id is none
    assert set(impressions.user.tolist()) == {parse_id("u3")}
    assert impressions.item[:4].tolist() == candidates("a1", "c1", "s1", "a3").item.tolist()
    fields = {name: values[:4] for name, values in impressions.fields.items()}
    np.testing.assert_array_equal(fields["price"], np.array([9.5, 4.0, 3.0, np.nan], np.float32))
    np.testing.assert_array_equal(fields["hour"], np.ones(4, np.float32))
    assert fields["brand"].tolist() == [*map(parse_id, ("leaf", "bean", "steel")), NO_ID]
    assert fields["segment"].tolist() == [parse_id("s0")] * 4
    assert fields["tags"].lengths.tolist() == [3, 2, 0, 0]
    assert fields["served_position"].tolist() == [0, 1, 2, 3]
    served = np.stack([impressions.fields[f"served_probability_{target}"][:8] for target in ("click", "buy")], axis=1)
    np.testing.assert_array_equal(served, np.concatenate([answer.probability for answer in answers]))
    assert order.tolist() == [3, 2, 1, 0, 7, 6, 5, 4]


def test_logs_of_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"holds no requests-\*\.parquet"):
        request_files(tmp_path)
    (tmp_path / "requests-x.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match=r"requests-x\.parquet: cannot be read"):
        list(read_requests(tmp_path / "requests-x.parquet"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "requests-x.parquet")
    with pytest.raises(InputError, match=r"requests-x\.parquet: is no file of requests"):
        list(read_requests(tmp_path / "requests-x.parquet"))


def test_recorded_requests_warm_what_is_new_before_it_serves(own_world, tmp_path, monkeypatch):
    """A file made of the log is answered by both stages at the start and at a change; a bad file is refused."""
    world, file = own_world, tmp_path / "warm.parquet"
    with serving(world, tmp_path) as services:
        for number in range(8):
            services.client.rank(asked(number, number))
    run = CliRunner().invoke(app, ["warm-requests", str(services.log), "--to", str(file), "--count", "5"])
    assert (run.exit_code, run.output) == (0, f"{file}: 5 requests\n")
    answered = []

    def noted(snapshot, serving, config, request, check_time):
        answered.append((snapshot.generation, request.user, request.newest, request.behavior_fields))
        return retrieve(snapshot, serving, config, request, check_time)

    monkeypatch.setattr(warm_up, "retrieve", noted)
    options = ServeOptions(warm_requests=file)
    users = {parse_id(f"u{number}") for number in range(8)}
    with (
        search_server(world.store, world.index, SearchConfig.load(), options) as search,
        ranking_server(world.bundle, f"127.0.0.1:{search.port}", options) as ranking,
        RankClient(f"127.0.0.1:{ranking.port}") as client,
        grpc.insecure_channel(f"127.0.0.1:{search.port}") as channel,
    ):
        recorded = [each for each in answered if each[3]]
        assert len({user for _, user, _, _ in recorded} & users) == 5
        assert {fields for *_, fields in recorded} == {("stars", "device")}
        answered.clear()
        rebuilt = rebuild(world.store, keep=2).generation
        admin_pb2_grpc.AdminServiceStub(channel).Reload(admin_pb2.ReloadRequest(), timeout=60)
        assert [generation for generation, *_, fields in answered if fields] == [rebuilt] * 5
        assert not client.rank(asked(1)).degraded
    file.write_bytes(b"nothing")
    for server in (
        search_server(world.store, world.index, SearchConfig.load(), options),
        ranking_server(world.bundle, "127.0.0.1:1", options),
    ):
        with pytest.raises(InputError, match=r"^warm-requests: .*warm\.parquet cannot be read"), server:
            pass


def test_each_worker_writes_files_of_its_own(own_world, tmp_path):
    world, folder = own_world, tmp_path / "log"
    arguments = ("--served-log", folder, "--served-share", "1")
    with (
        search_server(world.store, world.index, SearchConfig.load(), ServeOptions()) as search,
        ranking_workers_process(world, tmp_path, f"127.0.0.1:{search.port}", *arguments) as process,
    ):
        with connections(process) as channels:
            for number, channel in enumerate(channels):
                message = request_to_proto(asked(number), f"id-{number}")
                ranking_pb2_grpc.RankingServiceStub(channel).Rank(message, timeout=30)
        assert process.terminate() == 0, process.log.read_text()
    files = request_files(folder)
    assert {file.name.split("-")[4] for file in files} <= {"w1", "w2"}
    ids = sorted(logged.request_id for file in files for logged in read_requests(file))
    assert ids == [f"id-{number}" for number in range(8)]
    result, report = replayed(world, folder)
    assert (result.exit_code, report["num_same"]) == (0, 8)


SCHEMA = """
attention_dim: 4
representation_dim: 4
fields:
  - {kind: categorical, name: brand, part: candidate}
  - {kind: numeric, name: price, part: candidate}
  - {kind: categorical, name: segment, part: user}
  - {kind: numeric, name: hour, part: context}
  - {kind: multi_valued, name: tags, part: candidate}
"""


def test_a_bundle_is_trained_from_what_was_served(own_world, tmp_path):
    """Labels come by request and item; what was not reported is 0, or unknown where that is asked for."""
    world, dataset, config = own_world, tmp_path / "dataset", tmp_path / "config"
    rows = ["request_id,item,label_click,label_buy"]
    with serving(world, tmp_path) as services:
        for number in range(60):
            moment = AS_OF_MS + number // 4 * DAY_MS
            services.client.rank(asked(number % 4, as_of_ms=moment), request_id=f"id {number}")
            rows += [f"id {number},{('a1', 'c1')[number % 2]},1,{'' if number % 5 else 0}"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    arguments = ["join-labels", str(services.log), "--labels", str(tmp_path / "labels.csv"), "--to", str(dataset)]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output
    assert "240 impressions, 60 of them named by" in run.output
    impressions = read_impressions(dataset)
    assert impressions.label("click").sum() == 60
    assert np.isnan(impressions.label("buy")).sum() == 48
    assert CliRunner().invoke(app, [*arguments, "--absent", "unknown"]).exit_code == 0
    assert np.isnan(read_impressions(dataset).label("click")).sum() == 180
    assert CliRunner().invoke(app, arguments).exit_code == 0

    config.mkdir()
    (config / "schema.yaml").write_text(SCHEMA)
    (config / "targets.yaml").write_text("targets: [{name: click}]")
    (config / "train.yaml").write_text("{train: {max_epochs: 1}, calibration: none}")
    splits = {"validation_from_ms": AS_OF_MS + 8 * DAY_MS, "test_from_ms": AS_OF_MS + 12 * DAY_MS}
    (dataset / "splits.json").write_text(json.dumps(splits))
    with BehaviorStore.open(world.store) as store, store.snapshot() as snapshot:
        train_bundle(Recipe.load(config), dataset, snapshot, Searcher(store), tmp_path / "trained")
    bundle = load_bundle(tmp_path / "trained")
    assert bundle.provenance.train_until_ms == AS_OF_MS + 7 * DAY_MS
    assert {name: len(ids) for name, ids in bundle.vocabularies.categorical.items()}.keys() == {
        "brand",
        "segment",
        "tags",
    }


def test_labels_that_are_none_are_refused_by_name(own_world, tmp_path):
    with serving(own_world, tmp_path) as services:
        services.client.rank(asked(1), request_id="id")

    def refusal(text, log=services.log, to=tmp_path / "to"):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises((InputError, TooManyBadRowsError)) as caught:
            join_labels(log, tmp_path / "labels.csv", to, 0.0)
        return str(caught.value)

    assert "has no label" in refusal("request_id,item\nid,a1\n")
    assert "has a column 'clicked'" in refusal("request_id,item,clicked\nid,a1,1\n")
    assert "2 is neither 0 nor 1" in refusal("request_id,item,label_click\nid,a1,2\n")
    good = "request_id,item,label_click\nid,a1,1\n"
    assert "is the log itself" in refusal(good, to=services.log)
    assert "holds no impressions" in refusal(good, log=tmp_path)
