"""Who must not get in: every method of both services, asked without what it needs, is refused and tells nothing."""

from __future__ import annotations

import random
import re
import socket
import ssl
import threading
import urllib.error
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from model_stage.serving import convert
from model_stage.serving.options import RankingOptions
from model_stage.serving.server import RANKING_SERVICE, ranking_server
from model_stage.types import RankRequest
from protos.lookback.admin.v1 import admin_pb2
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from search_stage.config import SearchConfig
from search_stage.serving.server import search_server
from search_stage.serving.service import SEARCH_SERVICE
from serving import Role
from serving.wire.admin import ADMIN_SERVICE
from serving.wire.search import request_to_proto
from store import BehaviorStore
from store.retrieval import SearchRequest
from store.types import parse_id
from tests.worlds.calls import events
from tests.worlds.security import ROLES, bearer, channel_of, make_safe, read_page
from tests.worlds.services import AS_OF_MS, candidates, make_world

USER = parse_id("u3")
OK, REFUSED, FORBIDDEN = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
TOO_LARGE, NO_CONNECTION, NO_METHOD = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
)
SAID = re.compile(
    r"a token is needed: authorization: Bearer TOKEN|the token is not one of this service's|the token has expired"
    r"|there must be one header authorization: Bearer TOKEN"
    r"|the token is not allowed to do this: it needs the role [a-z-]+"
    r"|received metadata size exceeds (soft|hard) limit.*"
)
"""All that a stranger is ever told."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method, with a request that would be answered."""

    path: str
    request: bytes
    role: Role | None
    """None = any known caller."""
    fine: grpc.StatusCode = OK
    """What a caller gets who may ask."""


def methods_of(service: str) -> list[Method]:
    """Every method that a server of a service has, and two that it has not."""
    rank = convert.request_to_proto(RankRequest(user=USER, as_of_ms=AS_OF_MS, candidates=candidates("a1")), "r")
    search = request_to_proto(SearchRequest(user=USER, as_of_ms=AS_OF_MS, candidates=candidates("a1")))
    own = {
        SEARCH_SERVICE: {
            "Search": (search, Role.RANK),
            "Append": (events([USER], [1], [1]), Role.WRITE),
            "DeleteUser": (search_pb2.DeleteUserRequest(user=parse_id("u9")), Role.WRITE),
            "GetHistory": (search_pb2.GetHistoryRequest(user=USER), Role.READ_HISTORY),
            "GetAncestors": (search_pb2.GetAncestorsRequest(categories=search.candidates.item), Role.RANK),
        },
        RANKING_SERVICE: {
            "Rank": (rank, Role.RANK),
            "Explain": (ranking_pb2.ExplainRequest(request=rank), Role.READ_HISTORY),
        },
    }[service]
    declared = {
        method.name
        for file in (search_pb2, ranking_pb2)
        for name, about in file.DESCRIPTOR.services_by_name.items()
        if about.full_name == service
        for method in about.methods
    }
    assert own.keys() == declared
    listed = reflection_pb2.ServerReflectionRequest(list_services="")
    one = health_pb2.HealthCheckRequest(service=service)
    return [
        *(Method(f"/{service}/{name}", message.SerializeToString(), role) for name, (message, role) in own.items()),
        Method(f"/{ADMIN_SERVICE}/GetVersions", admin_pb2.GetVersionsRequest().SerializeToString(), Role.ADMIN),
        Method(f"/{ADMIN_SERVICE}/Reload", admin_pb2.ReloadRequest().SerializeToString(), Role.ADMIN),
        Method(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo", listed.SerializeToString(), Role.ADMIN),
        Method(f"/{health.SERVICE_NAME}/Check", one.SerializeToString(), None),
        Method(f"/{health.SERVICE_NAME}/Watch", one.SerializeToString(), None),
        Method(f"/{health.SERVICE_NAME}/List", b"", None, NO_METHOD),  # in its contract, and not in grpc's servicer
        Method(f"/{service}/DropEverything", b"", None, NO_METHOD),
        Method("/lookback.secret.v1.Backdoor/Open", b"", None, NO_METHOD),
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Both services behind everything there is, and what must never be told."""
    folder = tmp_path_factory.mktemp("strangers")
    world, safe = make_world(folder), make_safe(folder)
    options = safe.options(reflection=True, metrics_port=0)
    with ExitStack() as stack:
        search = stack.enter_context(search_server(world.store, world.index, SearchConfig.load(), options, append=True))
        asking = RankingOptions(search_security=safe.client("rank"))
        ranking = stack.enter_context(ranking_server(world.bundle, f"127.0.0.1:{search.port}", options, asking))
        yield world, safe, {SEARCH_SERVICE: search, RANKING_SERVICE: ranking}


def ask(channel, method, metadata=()):
    """Gives status, what was said, and what came."""
    call = channel.unary_stream(method.path)(method.request, metadata=metadata, timeout=30)
    answers = []
    try:
        for answer in call:
            answers.append(answer)
            if method.path.endswith("/Watch"):
                call.cancel()
                return OK, "", answers
    except grpc.RpcError:
        pass
    return call.code(), call.details(), answers


def wrong_tokens(safe):
    """What is no token of these services, by what is wrong with it, and the status that it must get."""
    good = safe.by_role["all"]
    tokens = {
        "no": ((), {REFUSED}),
        "no scheme": ((("authorization", good),), {REFUSED}),
        "another scheme": ((("authorization", f"Basic {good}"),), {REFUSED}),
        "empty": (bearer(""), {REFUSED}),
        "wrong": (bearer(f"lookback_00000000_{'A' * 43}"), {REFUSED}),
        "wrong secret": (bearer(good[:-43] + "A" * 43), {REFUSED}),
        "one letter off": (bearer(good[:-1] + ("A" if good[-1] != "A" else "B")), {REFUSED}),
        "expired": (bearer(safe.expired), {REFUSED}),
        "twice": (bearer(good) * 2, {REFUSED}),
        "4 KiB": (bearer(good + "A" * 4096), {REFUSED}),
        "9 KiB": (bearer(good + "A" * 9 * 1024), {TOO_LARGE}),
    }
    return tokens


@pytest.mark.parametrize("service", [SEARCH_SERVICE, RANKING_SERVICE])
def test_no_method_answers_a_stranger(served, service, scale, tally):
    world, safe, servers = served
    server, keys, codes = servers[service], safe.keys, Counter()
    with channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel:
        for method in methods_of(service) * scale(1, 20):
            for what, (metadata, expected) in wrong_tokens(safe).items():
                check_refused(ask(channel, method, metadata), expected, (method.path, what))
                codes.update(expected)
            for role in ROLES if method.role is not None else ():
                if role is not method.role:
                    said = ask(channel, method, bearer(safe.by_role[role]))
                    check_refused(said, {FORBIDDEN}, (method.path, role))
                    codes[FORBIDDEN] += 1
            if method.role is not None:
                check_refused(ask(channel, method, bearer(safe.by_role["-"])), {FORBIDDEN}, (method.path, "-"))
                codes[FORBIDDEN] += 1
    tally.runs = tally.injected = codes.total()
    tally.note = ", ".join(f"{count} {code.name}" for code, count in codes.items())
    assert server.admission.inside == 0
    check_nothing_happened(world)


def check_refused(got, expected, about):
    code, said, answers = got
    assert code in expected, (about, code, said)
    assert answers == [], about
    assert SAID.fullmatch(said), (about, said)


def check_nothing_happened(world):
    """The user whom strangers wanted to delete, and the behavior that they wanted to add, are as they were."""
    with BehaviorStore.open(world.store) as store:
        assert len(store.history(parse_id("u9"))) == len(store.history(USER)) == 40


@pytest.mark.parametrize("service", [SEARCH_SERVICE, RANKING_SERVICE])
def test_without_a_certificate_of_the_right_ca_nobody_connects(served, service, tally):
    """A good token does not help: there is no connection to send it on."""
    _, safe, servers = served
    keys, others, token = safe.keys, safe.others, bearer(safe.by_role["all"])
    for what, given in {
        "no client certificate": (keys.ca,),
        "client certificate of another CA": (keys.ca, others.client_cert, others.client_key),
        "server of another CA": (others.ca, keys.client_cert, keys.client_key),
        "no TLS": (None,),
    }.items():
        for method in methods_of(service):
            with channel_of(servers[service].port, *given) as channel:
                code, said, answers = ask(channel, method, token)
            assert (code, answers) == (NO_CONNECTION, []), (what, method.path, code, said)
            tally.injected += 1
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            page_of(servers[service].metrics_port, safe, what)
        tally.injected += 1
    tally.runs = tally.injected


def page_of(port, safe, what):
    token = safe.by_role["all"]
    match what:
        case "no client certificate":
            return read_page(port, safe.keys, token, client=False)
        case "no TLS":
            return read_page(port, None, token)
        case "server of another CA":
            return read_page(port, safe.others, token)
    context = ssl.create_default_context(cafile=safe.keys.ca)
    context.load_cert_chain(safe.others.client_cert, safe.others.client_key)
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        answer = connection.recv(100)
        assert answer == b"", answer
        raise ConnectionError("it hung up")


@pytest.mark.parametrize("service", [SEARCH_SERVICE, RANKING_SERVICE])
def test_whoever_has_the_right_token_is_answered(served, service):
    """What the refusals above are worth: the same requests, on the same channels, are answered."""
    _, safe, servers = served
    keys = safe.keys
    with channel_of(servers[service].port, keys.ca, keys.client_cert, keys.client_key) as channel:
        methods = [each for each in methods_of(service) if not each.path.endswith(("/DeleteUser", "/Append"))]
        for method in methods:
            holders = [str(method.role)] if method.role is not None else [*map(str, ROLES), "-"]
            for holder in (*holders, "all"):
                code, said, answers = ask(channel, method, bearer(safe.by_role[holder]))
                assert code is method.fine, (method.path, holder, said)
                assert bool(answers) == (code is OK)
        whole = Method(f"/{health.SERVICE_NAME}/Check", b"", None)
        assert ask(channel, whole) == (OK, "", [health_pb2.HealthCheckResponse(status=1).SerializeToString()])
    page = read_page(servers[service].metrics_port, keys, safe.by_role["-"])
    assert "lookback_auth_failures_total" in page
    for token in (None, "", "wrong", safe.expired):
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            read_page(servers[service].metrics_port, keys, token)
        assert refused.value.read() == b"a token is needed: Authorization: Bearer TOKEN\n"


def test_random_headers_and_paths_let_nobody_in(served, scale, seed, tally):
    world, safe, servers = served
    server, keys, codes = servers[SEARCH_SERVICE], safe.keys, Counter()
    total, threads, good = scale(600, 20_000), 4, safe.by_role["all"]
    methods = methods_of(SEARCH_SERVICE)

    def send(number):
        rng = random.Random(seed + number)
        with channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel:
            for _ in range(total // threads):
                method = rng.choice(methods)
                if rng.random() < 0.2:
                    method = Method(spoiled_path(rng, method.path), method.request, None)
                code, said, answers = ask(channel, method, spoiled_headers(rng, good))
                codes[code] += 1
                if code not in {REFUSED, TOO_LARGE} or answers or not SAID.fullmatch(said):
                    codes["odd", method.path, code, said] += 1

    workers = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [key for key in codes if isinstance(key, tuple)] == []
    assert codes[REFUSED] > total / 2
    tally.runs = tally.injected = codes.total()
    assert server.admission.inside == 0
    check_nothing_happened(world)


def spoiled_path(rng, path):
    at = rng.randrange(1, len(path))
    return path[:at] + rng.choice(("/", ".", "x", "%00", "..", path)) + path[at:]


def spoiled_headers(rng, good):
    """Headers of any kind, none of which has a token that counts."""
    letters = "abcXYZ019-_=. ~"
    noise = "".join(rng.choices(letters, k=rng.choice((0, 1, 43, 200, 3000)))).strip()
    value = rng.choice((noise, f"Bearer {noise}", f"bearer {good[: rng.randrange(len(good))]}", f"Bearer  {good}"))
    key = rng.choice(("authorization", "authorization", "x-authorization", "lookback-caller", "lookback-request-id"))
    return tuple((key, value) for _ in range(rng.randrange(3)))


def test_bytes_that_are_no_tls_and_no_http_harm_nobody(served, scale, rng, tally):
    """Straight at the ports: gRPC's and that of the metrics."""
    _, safe, servers = served
    server, keys = servers[SEARCH_SERVICE], safe.keys
    for number in range(scale(60, 2000)):
        port = (server.port, server.metrics_port)[number % 2]
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(junk(rng))
            if number % 3:
                connection.settimeout(0.05)
                try:
                    heard = connection.recv(4096)
                except (TimeoutError, ConnectionError):
                    heard = b""
                assert b"lookback" not in heard
        tally.injected += 1
    with channel_of(server.port, keys.ca, keys.client_cert, keys.client_key) as channel:
        admin = Method(f"/{ADMIN_SERVICE}/GetVersions", b"", Role.ADMIN)
        assert ask(channel, admin, bearer(safe.by_role["admin"]))[0] is OK
    assert read_page(server.metrics_port, keys, safe.by_role["-"])
    tally.runs = tally.injected


def junk(rng):
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a handshake begins
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return rng.choice((b"", hello, preface, b"GET /metrics HTTP/1.1\r\n\r\n")) + rng.randbytes(rng.randrange(600))
