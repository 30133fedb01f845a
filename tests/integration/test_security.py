"""Servers behind TLS and tokens: who gets in, how keys and tokens change while they serve, what is written down."""

from __future__ import annotations

import json
import time
import urllib.error
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import trustme

from model_stage.serving.options import RankingOptions
from model_stage.serving.rank_client import RankClient
from model_stage.serving.remote_retriever import RemoteRetriever
from model_stage.serving.server import ranking_server
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2, admin_pb2_grpc
from protos.lookback.search.v1 import search_pb2, search_pb2_grpc
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from serving import ClientSecurity, Role, ServeOptions
from serving.security.tokens import new_token
from serving.security.watched import CHECK_EVERY_S
from store.errors import InputError
from store.retrieval import SearchRequest
from store.types import parse_id
from tests.worlds.calls import events, results
from tests.worlds.security import bearer, channel_of, make_keys, make_safe, read_page, write_pair
from tests.worlds.services import AS_OF_MS, candidates, server_process
from tests.worlds.workers import events_of, workers_process

USER, ADS = parse_id("u3"), candidates("a1", "a2")
SEARCH = SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS)
RANK = RankRequest(user=USER, as_of_ms=AS_OF_MS, candidates=ADS)


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    return make_safe(tmp_path_factory.mktemp("safe"))


@pytest.fixture
def own(tmp_path):
    """Keys and tokens of one test, which may change them."""
    return make_safe(tmp_path)


def searching(world, safe, **options):
    return search_server(world.store, world.index, SearchConfig.load(), safe.options(**options))


def asking(safe, role):
    return RankingOptions(search_security=safe.client(role))


def admin_of(channel):
    return admin_pb2_grpc.AdminServiceStub(channel)


def wait_for(condition, limit_s=10.0):
    give_up_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_both_services_answer_behind_tls_and_tokens_as_they_do_without(world, safe, search, ranking, capfd):
    with (
        searching(world, safe) as behind,
        ranking_server(world.bundle, f"127.0.0.1:{behind.port}", safe.options(), asking(safe, "rank")) as ranks,
        RankClient(f"127.0.0.1:{ranks.port}", safe.client("all")) as client,
        RankClient(f"127.0.0.1:{ranking.port}") as plain,
    ):
        result = client.rank(RANK, request_id="behind")
        assert not result.degraded
        assert result.probability.tolist() == plain.rank(RANK).probability.tolist()
        assert client.explain(RANK).behaviors == plain.explain(RANK).behaviors
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    asked = {(line["component"], line["caller"]) for line in lines if line.get("request_id") == "behind"}
    assert asked == {("search", "rank.caller"), ("ranking", "all.caller")}


def test_a_ranking_server_whose_token_does_not_count_answers_degraded_and_says_why(world, safe):
    with (
        searching(world, safe) as behind,
        ranking_server(world.bundle, f"127.0.0.1:{behind.port}", safe.options(), asking(safe, "write")) as ranks,
        RankClient(f"127.0.0.1:{ranks.port}", safe.client("rank")) as client,
    ):
        result = client.rank(RANK)
        assert result.degraded
        assert "PERMISSION_DENIED" in result.degraded_reason


def test_a_new_certificate_and_ca_are_taken_up_without_a_restart(world, own, tmp_path):
    keys, new = own.keys, make_keys(tmp_path / "new")
    with (
        searching(world, own, metrics_port=0) as server,
        RemoteRetriever(f"127.0.0.1:{server.port}", own.client()) as client,
    ):
        answer = client.search(SEARCH)
        before = read_page(server.metrics_port, keys, own.by_role["-"])
        # A key without its certificate, as while one file is replaced after the other: the old pair goes on.
        old_key = keys.server_key.read_bytes()
        keys.server_key.write_bytes(new.server_key.read_bytes())
        assert read_page(server.metrics_port, keys, own.by_role["-"])
        keys.server_key.write_bytes(old_key)
        for name in ("server_key", "server_cert", "client_key", "client_cert", "ca"):
            getattr(keys, name).write_bytes(getattr(new, name).read_bytes())
        after = read_page(server.metrics_port, new, own.by_role["-"])  # both ends know the new ones only
        with channel_of(server.port, new.ca, new.client_cert, new.client_key) as channel:
            admin_of(channel).GetVersions(
                admin_pb2.GetVersionsRequest(), metadata=bearer(own.by_role["admin"]), timeout=9
            )
        with pytest.raises(urllib.error.URLError, match=r"certificate verify failed|alert|reset|EOF"):
            read_page(server.metrics_port, own.others, own.by_role["-"])
        time.sleep(CHECK_EVERY_S)
        assert client.search(SEARCH).store_generation == answer.store_generation  # the client follows its files too
    assert sample(before, 'lookback_certificate_reloads_total{result="refused"}') is None
    assert sample(after, 'lookback_certificate_reloads_total{result="refused"}') >= 1
    assert sample(after, 'lookback_certificate_reloads_total{result="swapped"}') >= 1


def sample(page, name):
    return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(name)), None)


def test_tokens_come_and_go_without_a_restart(world, own, capfd):
    token, credential = new_token("late", [Role.ADMIN], None)
    text = own.tokens.read_text()
    keys = own.keys
    with (
        searching(world, own, metrics_port=0) as server,
        channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel,
    ):

        def gets_in():
            call = admin_of(channel).GetVersions.future(
                admin_pb2.GetVersionsRequest(), metadata=bearer(token), timeout=9
            )
            assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
            return call.code() is grpc.StatusCode.OK

        assert not gets_in()
        own.tokens.write_text(f"{text}{credential.line()}\n")
        wait_for(gets_in)
        own.tokens.write_text("what is no line\n")  # refused: those that were read before still count
        time.sleep(1.2 * CHECK_EVERY_S)
        assert gets_in()
        own.tokens.write_text(text)
        wait_for(lambda: not gets_in())
        page = read_page(server.metrics_port, keys, own.by_role["-"])
    assert sample(page, 'lookback_token_reloads_total{result="swapped"}') == 2
    assert sample(page, 'lookback_token_reloads_total{result="refused"}') == 1
    assert sample(page, 'lookback_auth_failures_total{reason="unknown_token"}') >= 2
    refused = next(line for line in capfd.readouterr().err.splitlines() if "tokens refused" in line)
    assert f"{own.tokens}:1" in refused
    assert "what is no line" not in refused


def test_a_caller_is_held_to_its_own_limit_and_others_are_not(world, own):
    token, credential = new_token("greedy", [Role.ADMIN], None, in_flight=1)
    own.tokens.write_text(f"{own.tokens.read_text()}{credential.line()}\n")
    keys = own.keys
    with (
        searching(world, own) as server,
        channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel,
    ):
        ask, asked = admin_of(channel).GetVersions, admin_pb2.GetVersionsRequest()
        with server.door.gate.place(credential):  # a call of it that is under way
            with pytest.raises(grpc.RpcError) as refused:
                ask(asked, metadata=bearer(token), timeout=9)
            ask(asked, metadata=bearer(own.by_role["admin"]), timeout=9)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"] == "100"
        for _ in range(3):
            ask(asked, metadata=bearer(token), timeout=9)


def test_admin_and_delete_calls_are_noted_without_the_user(own_world, safe, capfd):
    keys, user = safe.keys, parse_id("u3")
    with (
        search_server(own_world.store, None, SearchConfig.load(), safe.options(), append=True) as server,
        channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel,
    ):
        delete = search_pb2_grpc.SearchServiceStub(channel).DeleteUser
        with pytest.raises(grpc.RpcError):
            delete(search_pb2.DeleteUserRequest(user=user), metadata=bearer(safe.by_role["rank"]), timeout=9)
        delete(search_pb2.DeleteUserRequest(user=user), metadata=bearer(safe.by_role["write"]), timeout=9)
        admin_of(channel).GetVersions(admin_pb2.GetVersionsRequest(), metadata=bearer(safe.by_role["admin"]), timeout=9)
    text = capfd.readouterr().err
    audit = [line for line in map(json.loads, text.splitlines()) if line["event"] == "audit"]
    assert [(line["method"].rpartition("/")[2], line["caller"], line["code"]) for line in audit] == [
        ("DeleteUser", "", "PERMISSION_DENIED"),
        ("DeleteUser", "write.caller", "OK"),
        ("GetVersions", "admin.caller", "OK"),
    ]
    assert str(user) not in text
    assert not any(token in text for token in safe.by_role.values())


@pytest.mark.parametrize("log_users", [False, True])
def test_a_fault_of_one_user_is_logged_without_the_user_unless_asked(own_world, capfd, log_users):
    user = parse_id("u3")
    [records] = list(own_world.store.rglob("records.bin"))
    with search_server(own_world.store, None, SearchConfig.load(), ServeOptions(log_users=log_users)) as server:
        spoil(records)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as caught:
            search_pb2_grpc.SearchServiceStub(channel).GetHistory(search_pb2.GetHistoryRequest(user=user), timeout=9)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert str(user) not in caught.value.details()
    text = capfd.readouterr().err
    assert "CorruptRecordError" in text
    assert (str(user) in text) == log_users


def spoil(records):
    """Damages every record in place: the open file is mapped, so that readers see it."""
    data = bytearray(records.read_bytes())
    data[:] = bytes(255 - byte for byte in data)
    with records.open("r+b") as file:
        file.write(data)


def test_a_client_certificate_alone_names_the_caller(world, safe, capfd):
    keys = safe.keys
    options = safe.options()
    options = ServeOptions(tls_cert=options.tls_cert, tls_key=options.tls_key, tls_client_ca=options.tls_client_ca)
    with (
        search_server(world.store, None, SearchConfig.load(), options) as server,
        channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel,
    ):
        admin_of(channel).GetVersions(admin_pb2.GetVersionsRequest(), timeout=9)
    audit = next(line for line in capfd.readouterr().err.splitlines() if '"audit"' in line)
    assert json.loads(audit)["caller"] == "ads.example"


def test_files_that_are_no_keys_are_named_at_the_start(world, own):
    keys = own.keys
    for options, message in (
        ({"tls_key": own.others.server_key}, "are no certificate and its key"),
        ({"tls_cert": keys.ca}, "are no certificate and its key"),
        ({"tls_cert": keys.ca.with_name("gone")}, "tls-cert: .*gone: No such file"),
        ({"tls_client_ca": keys.server_key}, "tls-client-ca: .* holds no certificates"),
        ({"tokens": keys.ca}, "tokens: .*ca.pem:1: expected id, caller"),
    ):
        given = {"tls_cert": keys.server_cert, "tls_key": keys.server_key, "tls_client_ca": keys.ca, **options}
        with (
            pytest.raises(InputError, match=message),
            search_server(world.store, None, SearchConfig.load(), ServeOptions(**given)),
        ):
            pass


def test_a_certificate_that_has_ended_is_refused(world, own):
    old = trustme.CA().issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    write_pair(old, own.keys.server_cert, own.keys.server_key)
    with (
        pytest.raises(InputError, match=r"tls-cert: .* is of no use now: certificate has expired"),
        searching(world, own),
    ):
        pass


def test_a_token_never_travels_unencrypted_to_another_machine(safe):
    token = ClientSecurity(token_file=safe.client("rank").token_file)
    with pytest.raises(InputError, match="token-file: without encryption"):
        RemoteRetriever("search.example:50051", token)
    for address in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        RemoteRetriever(address, token).close()


def test_several_workers_are_one_server_behind_tls_and_tokens(own_world, safe, tmp_path):
    """What one worker lets in it passes on over its own socket; the page of all is behind the same door."""
    keys, times = safe.keys, []
    arguments = (*safe.arguments(), "--append", "--metrics-port", "0")
    with workers_process(own_world, tmp_path, *arguments) as process:
        for number in range(8):  # the kernel spreads them over the workers
            with channel_of(process.port, keys.ca, keys.client_cert, keys.client_key) as channel:
                stub = search_pb2_grpc.SearchServiceStub(channel)
                event = events([USER], [7], [AS_OF_MS + number])
                with pytest.raises(grpc.RpcError) as refused:
                    stub.Append(event, metadata=bearer(safe.by_role["rank"]), timeout=60)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert results(stub.Append(event, metadata=bearer(safe.by_role["write"]), timeout=60)) == [1]
                times.append(AS_OF_MS + number)
                answer = admin_of(channel).GetVersions(
                    admin_pb2.GetVersionsRequest(), metadata=bearer(safe.by_role["admin"]), timeout=60
                )
                assert [worker.problem for worker in answer.workers] == ["", ""]
        noted = events_of(process)
        port = next(event["metrics_port"] for event in noted if event["event"] == "metrics")
        page = read_page(port, keys, safe.by_role["-"])
        with pytest.raises(urllib.error.HTTPError, match="401"):
            read_page(port, keys)
        assert process.terminate() == 0
    refusals = [line for line in page.splitlines() if line.startswith('lookback_auth_failures_total{reason="role"')]
    refusals += [line for line in page.splitlines() if line.startswith("lookback_auth_failures_total{worker")]
    assert sum(float(line.split()[-1]) for line in refusals if 'reason="role"' in line) == len(times)
    log = process.log.read_text()
    passed_on = [line for line in map(json.loads, log.splitlines()) if line.get("method", "").endswith("/Append")]
    assert {line["caller"] for line in passed_on if line["code"] == "OK"} == {"write.caller"}


def test_an_insecure_server_shouts(world, tmp_path):
    roots = ("--store", world.store, "--host", "0.0.0.0", "--insecure")
    with server_process(tmp_path, "search_stage", *roots) as process:
        first = json.loads(process.log.read_text().splitlines()[0])
    assert first["event"] == "INSECURE"
    assert "no encryption and no access control" in first["problem"]
