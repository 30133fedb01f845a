"""Bytes and messages that no client of ours would send, over TLS and with a good token, straight at a search server."""

from __future__ import annotations

import gzip
import random
import re
import threading
from collections import Counter
from pathlib import Path

import grpc
import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.lookback.columns.v1 import columns_pb2
from protos.lookback.search.v1 import search_pb2 as pb
from tests.worlds.fault_search import make_search_world
from tests.worlds.security import channel_of, make_safe, showing
from tests.worlds.services import server_process

SEARCH = "/lookback.search.v1.SearchService/"
ADMIN = "/lookback.admin.v1.AdminService/"
WEIGHTS = {
    SEARCH + "Search": 8,
    SEARCH + "Append": 6,
    SEARCH + "GetHistory": 3,
    SEARCH + "DeleteUser": 1,
    SEARCH + "GetAncestors": 2,
    ADMIN + "GetVersions": 1,
}
"""How often each method is called."""
FINE = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
MOST_MIB = 768
"""More memory than at the start, for whatever comes: 16 MiB of message in a few forms at once, for a few at a time."""


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    return make_safe(tmp_path_factory.mktemp("safe"))


@pytest.fixture(scope="module")
def served(tmp_path_factory, safe):
    """A server that writes, too, as one process behind TLS and tokens, and the connection to it of who may do all."""
    folder = tmp_path_factory.mktemp("fuzz")
    world = make_search_world(folder, random.Random(1), tags=1)
    keys = safe.keys
    roots = ("--store", world.store, "--index", world.index)
    with server_process(folder, "search_stage", *roots, "--append", *safe.arguments()) as process:
        options = (("grpc.max_send_message_length", -1),)
        with channel_of(process.port, keys.ca, keys.client_cert, keys.client_key, options) as bare:
            channel = showing(bare, safe.by_role["all"])
            for number, request in enumerate(world.requests):
                code, answer = call(channel, SEARCH + "Search", request.SerializeToString())
                assert code is grpc.StatusCode.OK
                assert world.is_right(number, pb.SearchResponse.FromString(answer))
            yield world, process, channel, peak_mib(process)


def peak_mib(process):
    status = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def call(channel, method, data, **options):
    """Gives the status and the answer, or what was said."""
    try:
        return grpc.StatusCode.OK, channel.unary_unary(method)(data, timeout=60, **options)
    except grpc.RpcError as error:
        return error.code(), error.details()


def check_unharmed(served, tally):
    """The same process is there, answers as before, and has not grown out of bounds."""
    world, process, channel, before_mib = served
    assert process.popen.poll() is None
    grown = peak_mib(process) - before_mib
    assert grown < MOST_MIB
    tally.note = f"{tally.note}; peak memory {grown:+.0f} MiB".lstrip("; ")
    known = pb.GetHistoryRequest(user=1, page_size=5).SerializeToString()
    assert call(channel, SEARCH + "GetHistory", known)[0] is grpc.StatusCode.OK
    assert call(channel, SEARCH + "Search", world.requests[0].SerializeToString())[0] is grpc.StatusCode.OK
    tally.check()


def seeds_of(world):
    """Sound requests, to be spoiled."""
    ids = columns_pb2.Column(dtype=columns_pb2.D_TYPE_UINT64, data=np.arange(3, dtype="<u8").tobytes())
    times = columns_pb2.Column(dtype=columns_pb2.D_TYPE_INT64, data=np.arange(3, dtype="<i8").tobytes())
    append = pb.AppendRequest(
        user=ids, item=ids, timestamp_ms=times, domains=["ads"] * 3, actions=["click"] * 3, scenes=[""] * 3
    )
    append.fields.add(
        name="price", values=columns_pb2.Column(dtype=columns_pb2.D_TYPE_FLOAT32, data=b"\0" * 12), present=b"\1\0\1"
    )
    return {
        SEARCH + "Search": [request.SerializeToString() for request in world.requests],
        SEARCH + "Append": [append.SerializeToString()],
        SEARCH + "GetHistory": [pb.GetHistoryRequest(user=1, page_size=3, page_token="5.1").SerializeToString()],
        SEARCH + "DeleteUser": [pb.DeleteUserRequest(user=10**9).SerializeToString()],
        SEARCH + "GetAncestors": [pb.GetAncestorsRequest(categories=ids, request_id="r").SerializeToString()],
        ADMIN + "GetVersions": [b""],
    }


def spoiled(rng, sound):
    """Gives random bytes, or a sound request with a few random changes."""
    data = bytearray(rng.choice(sound))
    kind = rng.randrange(6)
    if kind == 0 or not data:
        return rng.randbytes(rng.choice((0, 1, 7, 100, 5000)))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        if kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
        elif kind == 3:
            stop = min(len(data), at + rng.randint(1, 40))
            data[at:at] = data[at:stop] * rng.randint(1, 3)
        elif kind == 4:
            del data[at : at + rng.randint(1, 20)]
        elif data:
            at %= len(data)
            data[at] = rng.choice((data[at] ^ (1 << rng.randrange(8)), 0, 0x7F, 0x80, 0xFF))
        if not data:
            break
    return bytes(data)


def test_random_and_mutated_bytes(served, scale, seed, tally):
    """They are answered or refused as the caller's fault; nothing else comes of them."""
    world, _, channel, _ = served
    sound, total, threads = seeds_of(world), scale(2000, 100_000), 4
    codes, odd = Counter(), []

    def send(number):
        rng = random.Random(seed + number)
        for _ in range(total // threads):
            method = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
            data = spoiled(rng, sound[method])
            code, said = call(channel, method, data)
            codes[code] += 1
            if code not in FINE:
                odd.append((method, data, code, said))

    workers = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert odd == []
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > total / 4
    tally.runs, tally.injected = total, codes[grpc.StatusCode.INVALID_ARGUMENT]
    tally.note = f"{codes[grpc.StatusCode.OK]} were sound all the same"
    check_unharmed(served, tally)


edges = st.sampled_from((0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1))
times = st.sampled_from((-(2**63), -1, 0, 1, 10**9, 2**62, 2**63 - 1))
ids = st.sampled_from((0, 1, 1001, 2**63, 2**64 - 2, 2**64 - 1))
WIDTHS = {
    columns_pb2.D_TYPE_UINT64: "<u8",
    columns_pb2.D_TYPE_INT64: "<i8",
    columns_pb2.D_TYPE_UINT8: "<u1",
    columns_pb2.D_TYPE_FLOAT32: "<f4",
}


@st.composite
def columns(draw, dtype, length):
    """A column, mostly of a type and near a length; offsets run from -2**63 to 2**63 - 1."""
    dtype = draw(st.sampled_from((dtype, dtype, dtype, *WIDTHS, 0, 99)))
    count = max(0, length + draw(st.sampled_from((0, 0, 0, -1, 1))))
    kind = WIDTHS.get(dtype, "<u8")
    if kind == "<f4":
        values = draw(st.lists(st.floats(width=32), min_size=count, max_size=count))
    else:
        whole = {"<u8": ids, "<u1": st.integers(0, 255)}.get(kind, times | st.integers(-3, 6))
        values = draw(st.lists(whole, min_size=count, max_size=count))
    data = np.array(values, kind).tobytes()
    return columns_pb2.Column(dtype=dtype, data=data[: len(data) - draw(st.sampled_from((0, 0, 0, 1)))])


@st.composite
def search_messages(draw):
    length = draw(st.integers(0, 4))
    message = pb.SearchRequest(user=draw(ids), as_of_ms=draw(times), with_names=draw(st.booleans()))
    message.candidates.item.CopyFrom(draw(columns(columns_pb2.D_TYPE_UINT64, length)))
    if draw(st.booleans()):
        message.candidates.category.CopyFrom(draw(columns(columns_pb2.D_TYPE_UINT64, length)))
    if draw(st.booleans()):
        message.candidates.covers.CopyFrom(draw(columns(columns_pb2.D_TYPE_UINT64, draw(st.integers(0, 5)))))
    if draw(st.booleans()):
        message.candidates.covers_offsets.CopyFrom(draw(columns(columns_pb2.D_TYPE_INT64, length + 1)))
    for name in ("hard", "soft", "recent"):
        if draw(st.booleans()):
            setattr(message.top_k, name, draw(edges))
    message.behavior_fields.extend(draw(st.lists(st.text(max_size=3) | st.just("x" * 100_000), max_size=2)))
    return SEARCH + "Search", message


@st.composite
def append_messages(draw):
    length = draw(st.integers(0, 4))
    words = st.lists(st.sampled_from(("ads", "", "x" * 300, "\0", "click")), min_size=length, max_size=length)
    message = pb.AppendRequest(
        user=draw(columns(columns_pb2.D_TYPE_UINT64, length)),
        item=draw(columns(columns_pb2.D_TYPE_UINT64, length)),
        timestamp_ms=draw(columns(columns_pb2.D_TYPE_INT64, length)),
        domains=draw(words),
        actions=draw(words),
        scenes=draw(words | st.just([])),
    )
    if draw(st.booleans()):
        values = draw(columns(columns_pb2.D_TYPE_FLOAT32, length))
        field = message.fields.add(name=draw(st.text(max_size=3)), values=values, present=draw(st.binary(max_size=5)))
        if draw(st.booleans()):
            field.offsets.CopyFrom(draw(columns(columns_pb2.D_TYPE_INT64, length + 1)))
    return SEARCH + "Append", message


@st.composite
def history_messages(draw):
    tokens = ("", "5.1", "0.0", "999999999999999.9999999999", "9" * 400, "-1.1", "1.", "\u0663.1")
    message = pb.GetHistoryRequest(
        user=draw(ids), as_of_ms=draw(times), page_size=draw(edges), page_token=draw(st.sampled_from(tokens))
    )
    return SEARCH + "GetHistory", message


@st.composite
def ancestor_messages(draw):
    length = draw(st.integers(0, 4) | st.sampled_from((999, 1000, 1001)))
    if length > 4:
        column = columns_pb2.Column(dtype=columns_pb2.D_TYPE_UINT64, data=bytes(8 * length))
    else:
        column = draw(columns(columns_pb2.D_TYPE_UINT64, length))
    return SEARCH + "GetAncestors", pb.GetAncestorsRequest(categories=column, request_id=draw(st.text(max_size=3)))


def test_messages_at_the_edges_of_their_fields(served, scale, seed, tally):
    """Ragged columns, k = 0 and 2**31, offsets that overflow: answered, or refused with the name of the field."""
    _, _, channel, _ = served
    codes = Counter()

    @settings(max_examples=scale(120, 10_000), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @hypothesis.seed(seed)
    @given(search_messages() | append_messages() | history_messages() | ancestor_messages())
    def check(sent):
        method, message = sent
        code, said = call(channel, method, message.SerializeToString())
        codes[code] += 1
        assert code in FINE, (code, said)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            field = re.split(r"[:.\[]", said)[0]
            assert field in message.DESCRIPTOR.fields_by_name, said

    check()
    tally.runs, tally.injected = codes.total(), codes[grpc.StatusCode.INVALID_ARGUMENT]
    assert codes[grpc.StatusCode.OK]
    assert tally.injected
    check_unharmed(served, tally)


def many_small_parts(number):
    """A request of few bytes that becomes many objects."""
    empty = pb.AppendRequest(fields=[columns_pb2.NamedColumn()]).SerializeToString()
    return empty * number


LARGE = {
    "an endless column": (
        "Search",
        pb.SearchRequest(
            candidates=columns_pb2.Candidates(
                item=columns_pb2.Column(dtype=columns_pb2.D_TYPE_UINT64, data=bytes(15 << 20))
            )
        ).SerializeToString(),
        "INVALID_ARGUMENT",
    ),
    "many small parts": ("Append", many_small_parts((4 << 20) // 2), "INVALID_ARGUMENT"),
    "many events": (
        "Append",
        pb.AppendRequest(user=columns_pb2.Column(data=bytes(3 << 20))).SerializeToString(),
        "INVALID_ARGUMENT",
    ),
    "a large append": ("Append", bytes(5 << 20), "INVALID_ARGUMENT"),
    "a large question": ("GetHistory", bytes(1 << 20), "INVALID_ARGUMENT"),
    "many categories": (
        "GetAncestors",
        pb.GetAncestorsRequest(
            categories=columns_pb2.Column(dtype=columns_pb2.D_TYPE_UINT64, data=bytes(15 << 20))
        ).SerializeToString(),
        "INVALID_ARGUMENT",
    ),
    "too large for any": ("Search", bytes(17 << 20), "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_is_refused_before_it_is_made_larger(served, name, scale, tally):
    _, _, channel, _ = served
    method, data, expected = LARGE[name]
    for _ in range(scale(2, 20)):
        answers = [channel.unary_unary(SEARCH + method).future(data, timeout=60) for _ in range(4)]
        assert {answer.code() for answer in answers} == {grpc.StatusCode[expected]}
        tally.runs += len(answers)
        tally.injected += len(answers)
    check_unharmed(served, tally)


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(served, safe, scale, tally):
    """Of a caller that is known, and of one that is not: it has to be unpacked before anybody can tell."""
    _, process, channel, _ = served
    keys, bomb = safe.keys, {"compression": grpc.Compression.Gzip}
    assert len(gzip.compress(bytes(40 << 20), 1)) < 1 << 20
    options = (("grpc.max_send_message_length", -1),)
    with channel_of(process.port, keys.ca, keys.client_cert, keys.client_key, options) as stranger:
        for _ in range(scale(1, 20)):
            for who in (channel, stranger):
                code, said = call(who, SEARCH + "Search", bytes(40 << 20), **bomb)
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, said
                tally.runs += 1
    tally.injected = tally.runs
    check_unharmed(served, tally)
