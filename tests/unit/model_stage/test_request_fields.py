"""Fields of a request from a file: what comes of each value, and what is refused by file and key."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model_stage.cli.request_fields import read_request_fields
from store.errors import InputError
from store.lists import Lists
from store.types import parse_id


def written(tmp_path, text):
    path = tmp_path / "fields.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_what_they_look_like(tmp_path):
    content = {
        "candidate": {"price": 2.5, "brand": "leaf", "tags": ["hot", "7"], "none": []},
        "context": {"hour": 7, "small": -1e-3},
    }
    found = read_request_fields(written(tmp_path, json.dumps(content)))
    price, brand, tags, none = found.candidate.values()
    assert (price.dtype, price.tolist()) == (np.float32, [2.5])
    assert (brand.dtype, brand.tolist()) == (np.uint64, [parse_id("leaf")])
    assert isinstance(tags, Lists)
    assert (tags.values.tolist(), tags.values.dtype, tags.offsets.tolist()) == ([parse_id("hot"), 7], np.uint64, [0, 2])
    assert (len(none), none.values.dtype, none.offsets.tolist()) == (1, np.uint64, [0, 0])
    assert found.user == {}
    assert found.context["hour"].tolist() == [7]
    assert found.context["small"][0] == np.float32(-1e-3)
    assert read_request_fields(written(tmp_path, "{}")).candidate == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "(is no JSON|has half of a surrogate pair)"),
        ("{'user': 1}", "(is no JSON|has half of a surrogate pair)"),
        (b"\xff", "(is no JSON|has half of a surrogate pair)"),
        ('{"user": {"shoes": "\\ud800"}}', "(is no JSON|has half of a surrogate pair)"),
        ("[" * 100_000, "(is no JSON|has half of a surrogate pair)"),
        ("[]", r"must be an object, is \[\]"),
        ('{"users": {}}', "users: is no part of a request; the parts are candidate, user, context"),
        ('{"user": 3}', "user: must be an object, is 3"),
        ('{"user": {}, "user": {}}', "is no plain JSON: user: is given twice"),
        ('{"user": {"age": 1, "age": 2}}', "is no plain JSON: age: is given twice"),
        ('{"user": {"age": null}}', "user.age: must be a finite number, a string .* or a list of strings .*, is null"),
        ('{"user": {"age": true}}', "user.age: .*, is true"),
        ('{"user": {"age": NaN}}', "is no JSON .NaN is no number"),
        ('{"user": {"age": 1e39}}', "user.age: .*, is 1e[+]39"),
        ('{"user": {"age": 1' + "0" * 400 + "}}", "user.age: .*, is 1000"),
        ('{"user": {"likes": ["a", 3]}}', r'user.likes: .*, is \["a", 3\]'),
        ('{"user": {"likes": {"a": 3}}}', "user.likes: must be"),
    ],
)
def test_what_is_wrong_is_refused_by_file_and_key(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_request_fields(path)


def test_no_id_and_no_file_are_refused_so_too(tmp_path):
    path = written(tmp_path, '{"candidate": {"brand": ""}}')
    with pytest.raises(InputError, match=f"^{path}: candidate.brand: an id must not be empty"):
        read_request_fields(path)
    path = written(tmp_path, '{"candidate": {"tags": ["a", "18446744073709551615"]}}')
    with pytest.raises(InputError, match=f"^{path}: candidate.tags: "):
        read_request_fields(path)
    with pytest.raises(InputError, match=r"absent.json: cannot be read"):
        read_request_fields(tmp_path / "absent.json")
