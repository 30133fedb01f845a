"""The benchmark of TLS and tokens: turns, and the numbers that come of them."""

from __future__ import annotations

from scripts.bench import security
from scripts.bench.security import ALL, PLAIN, TOKENS, WARM_UP, _alternate, _row, _token_check_us, _ways
from serving.security.channel import read_secrets
from serving.security.tls import TlsFiles, read_certificate
from serving.security.tokens import find_credential, read_tokens


def test_every_way_has_its_turn_and_nobody_always_the_last(monkeypatch):
    order = []
    monkeypatch.setattr(security, "elapsed_ms", lambda call: call() or 1.0)
    calls = {(kind, way): lambda kind=kind, way=way: order.append((kind, way)) for kind in "ab" for way in (PLAIN, ALL)}
    took = _alternate(calls, 4)
    assert all(len(times) == 4 for times in took.values())
    assert len(order) == 4 * (4 + WARM_UP)
    assert [kind for kind, _ in order] == ["a"] * (len(order) // 2) + ["b"] * (len(order) // 2)
    assert {tuple(way for _, way in order[at : at + 2]) for at in range(0, 28, 2)} == {(PLAIN, ALL), (ALL, PLAIN)}


def test_a_row_is_over_the_plain_calls_of_its_kind():
    row = _row({("a", PLAIN): [1.0, 2.0, 3.0], ("a", ALL): [2.0, 3.0, 9.0], ("b", PLAIN): [50.0]}, "a", ALL)
    assert (row["p50_ms"], row["p50_ratio"]) == (3.0, 1.5)


def test_keys_and_tokens_of_the_ways_fit_each_other(tmp_path):
    ways = _ways(tmp_path)
    assert list(ways) == [PLAIN, TOKENS, ALL]
    secrets = read_secrets(ways[ALL].client)
    token = dict(secrets.metadata)["authorization"].removeprefix("Bearer ")
    given = dict(zip(ways[ALL].arguments[::2], ways[ALL].arguments[1::2], strict=True))
    assert find_credential(read_tokens(given["--tokens"]), token).caller == "bench"
    files = TlsFiles(cert=given["--tls-cert"], key=given["--tls-key"], client_ca=given["--tls-client-ca"])
    assert read_certificate(files).client_ca == secrets.tls[0]
    assert _token_check_us(10) > 0
