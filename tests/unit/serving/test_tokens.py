"""Tokens, their file, and the roles of methods."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prometheus_client import Counter

from model_stage.serving.service import RankingServicer
from protos.lookback.admin.v1 import admin_pb2
from protos.lookback.ranking.v1 import ranking_pb2
from protos.lookback.search.v1 import search_pb2
from search_stage.serving.service import SearchServicer
from serving import ClientSecurity, ForbiddenError, Role, ServeOptions, UnauthenticatedError
from serving.security.channel import read_secrets
from serving.security.gate import Gate
from serving.security.roles import Need, need_of
from serving.security.tokens import find_credential, new_token, parse_expiry, read_tokens
from serving.security.watched import Watched
from serving.wire.admin import AdminServicer
from store.errors import InputError
from tests.worlds.security import ROLES, bearer

LINE = "3f9c0a12  ads  rank  2027-05-30  sha256:" + "ab" * 32


def written(folder, *lines):
    path = folder / "tokens"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_is_made_is_found_again_and_its_secret_stands_nowhere(tmp_path):
    token, credential = new_token("ads", [Role.RANK, Role.WRITE], 2e9, in_flight=7)
    path = written(tmp_path, "# a comment", "", credential.line())
    assert read_tokens(path) == {credential.id: credential}
    assert find_credential(read_tokens(path), token) == credential
    assert token.rpartition("_")[2] not in path.read_text()
    assert credential.in_flight == 7
    assert new_token("ads", [], None)[0] != new_token("ads", [], None)[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("lookback", "lookbock"),
        lambda token: re.sub("_[0-9a-f]{8}_", "_00000000_", token),
        lambda token: token + " " * 10_000,
        lambda token: "\u00e4" * 60,
        lambda token: token + "\n",
    ],
)
def test_a_token_that_differs_anywhere_does_not_count(spoil):
    token, credential = new_token("ads", [Role.RANK], None)
    with pytest.raises(UnauthenticatedError, match="not one of this service's") as caught:
        find_credential({credential.id: credential}, spoil(token))
    assert caught.value.reason == "unknown_token"


def test_a_token_counts_until_it_expires():
    token, credential = new_token("ads", [Role.RANK], time.time() + 0.2)
    assert find_credential({credential.id: credential}, token) == credential
    time.sleep(0.25)
    with pytest.raises(UnauthenticatedError) as caught:
        find_credential({credential.id: credential}, token)
    assert caught.value.reason == "expired"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3f9c0a12 ads rank never", r"tokens: .*tokens:2: expected id, caller, roles, expiry and sha256, got 4 words"),
        (LINE.replace("3f9c0a12", "3f9c0a1"), "the id must be 8 hexadecimal digits"),
        (LINE.replace("ads", "Ads!"), "the caller must have 1 to 32 characters"),
        (LINE.replace("rank", "king"), "roles must be of rank, write, read-history, admin"),
        (LINE.replace("2027-05-30", "soon"), "the expiry must be a date"),
        (LINE[:-1], "the fifth word must be sha256: and 64"),
        (LINE + " in-flight=0", "the only option is in-flight=N"),
        (LINE + " in-flight=1 x", "the only option is in-flight=N"),
    ],
)
def test_a_bad_line_is_named_and_not_shown(tmp_path, line, message):
    with pytest.raises(InputError, match=message) as caught:
        read_tokens(written(tmp_path, "# first", line))
    assert "abab" not in str(caught.value)


def test_files_that_say_nothing_are_refused(tmp_path):
    for path, message in (
        (tmp_path / "gone", "No such file"),
        (written(tmp_path, "# nothing"), "nobody could call"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(InputError, match=message):
            read_tokens(path)
    with pytest.raises(InputError, match=r"tokens:2: the id 3f9c0a12 stands there twice"):
        read_tokens(written(tmp_path, LINE, LINE))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no text"):
        read_tokens(tmp_path / "bytes")


def test_an_expiry_is_a_date_or_a_time_of_utc():
    assert parse_expiry("never") is None
    assert parse_expiry("2027-05-30") == datetime(2027, 5, 30, tzinfo=UTC).timestamp()
    assert parse_expiry("2027-05-30T14:00:00+02:00") == datetime(2027, 5, 30, 12, tzinfo=UTC).timestamp()


NEEDED = {
    "Search": Role.RANK,
    "GetAncestors": Role.RANK,
    "Rank": Role.RANK,
    "Append": Role.WRITE,
    "DeleteUser": Role.WRITE,
    "GetHistory": Role.READ_HISTORY,
    "Explain": Role.READ_HISTORY,
    "Reload": Role.ADMIN,
    "GetVersions": Role.ADMIN,
}


@pytest.mark.parametrize(
    ("messages", "servicer"),
    [(search_pb2, SearchServicer), (ranking_pb2, RankingServicer), (admin_pb2, AdminServicer)],
)
def test_every_method_names_the_role_that_it_needs(messages, servicer):
    """A method that names none would let nobody in."""
    for service in messages.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            need = need_of(getattr(servicer, method.name))
            assert need is not None
            assert need.role is NEEDED[method.name]
            assert need.audited == (need.role is Role.ADMIN or method.name == "DeleteUser")


def test_a_method_that_names_no_role_lets_nobody_in():
    token, credential = new_token("all", ROLES, None)
    failures = Counter("refused", "", ("reason",), registry=None)
    gate = Gate(SimpleNamespace(get=lambda: {credential.id: credential}), failures)
    context = SimpleNamespace(invocation_metadata=lambda: bearer(token))
    assert gate.admit(context, Need(Role.RANK)) == gate.admit(context, Need(None)) == credential
    with pytest.raises(ForbiddenError):
        gate.admit(context, None)
    assert failures.labels("role")._value.get() == 1


def test_a_watched_file_is_read_when_it_has_changed_and_kept_when_it_is_bad(tmp_path):
    path, told = written(tmp_path, "1"), []
    watched = Watched([path], lambda: int(path.read_text()), told.append, every_s=0.0)
    assert (watched.get(), told) == (1, [])
    path.write_text("22")
    assert (watched.get(), told) == (22, [None])
    path.write_text("no number")
    assert watched.get() == watched.get() == 22
    assert [type(error) for error in told] == [type(None), ValueError]
    os.unlink(path)
    assert watched.get() == 22
    path.write_text("3")
    assert watched.get() == 3


def test_a_file_is_not_looked_at_all_the_time(tmp_path):
    path = written(tmp_path, "1")
    watched = Watched([path], lambda: int(path.read_text()), every_s=60.0)
    path.write_text("22")
    assert watched.get() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": "c"}, "tls-cert: a certificate and its key go together"),
        ({"tls_key": "k"}, "tls-cert: a certificate and its key go together"),
        ({"tls_client_ca": "a"}, "tls-client-ca: clients show certificates over TLS only"),
        ({"host": "0.0.0.0"}, "no encryption and no access control"),
        ({"host": "0.0.0.0", "tokens": "t"}, "this server has no encryption;"),
        ({"host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}, "this server has no access control;"),
    ],
)
def test_a_server_is_not_left_half_open(given, message):
    with pytest.raises(InputError, match=message):
        ServeOptions(**given)


def test_a_server_beyond_loopback_has_tls_and_tokens_or_client_certificates_or_shouts():
    pair = {"host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}
    assert ServeOptions(**pair, tokens="t").exposed == ServeOptions(**pair, tls_client_ca="a").exposed == ""
    assert ServeOptions(host="0.0.0.0", insecure=True).exposed == "encryption and no access control"
    assert ServeOptions(**pair, insecure=True).exposed == "access control"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": "c", "tls_ca": "a"}, "tls-cert: a certificate and its key go together"),
        ({"tls_cert": "c", "tls_key": "k"}, "tls-cert: there is no TLS without tls-ca"),
    ],
)
def test_a_client_is_not_left_half_known(given, message):
    with pytest.raises(InputError, match=message):
        ClientSecurity(**given)


@pytest.mark.parametrize("text", ["", "two words", "t\u00f6ken", "a\nb"])
def test_a_token_file_holds_a_token_and_nothing_else(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=r"token-file: .* must hold a token and nothing else"):
        read_secrets(ClientSecurity(token_file=path))
    path.write_text("one\n")
    assert read_secrets(ClientSecurity(token_file=path)).metadata == (("authorization", "Bearer one"),)
