"""Odd bodies: whatever is sent gets a 4xx, and leaves nothing behind."""

import json
import random
from typing import Any

import pytest

from causalrn.server.api.schemas.generate import GenerateRequest
from tests.server.live_server import LiveServer
from tests.server.raw_http import assert_harmless, assert_refused, exchange, post, statuses


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"prompt": ' + b"[" * 60_000 + b"]" * 4000 + b"}",
        b"\xff\xfe{\0}\0",
        b'{"prompt": "\xc3"}',
        b'{"prompt": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"prompt": "hi"}',
        b'{"prompt": "a\0b"}',
        b'{"prompt": "hi"}\0',
        b'{"prompt": "hi"}{"prompt": "hi"}',
        b'{"prompt": "hi", "prompt": "hi"}',
        b'{"prompt": "hi", "seed": ' + b"9" * 60_000 + b"}",
        b'{"prompt": "hi", "seed": -' + b"9" * 5000 + b"}",
        b'{"prompt": "hi", "temperature": 1e99999}',
        b'{"prompt": "hi", "temperature": 0.' + b"9" * 60_000 + b"e309}",
        b'{"prompt": "hi", "temperature": NaN}',
        b'{"prompt": "hi", "temperature": -Infinity}',
        b'{"prompt": "hi", "top_p": nan}',
        b'{"prompt": "hi", "\\ud800": 1}',
        b'{"prompt": "\\ud800"}',
        b'{"token_ids": [' + b"1," * 30_000 + b"-1]}",
        b'{"token_ids": [1e3]}',
        b'{"token_ids": [true]}',
        json.dumps({"prompt": "hi"} | dict.fromkeys(map(str, range(900)), 0)).encode(),
        json.dumps(dict.fromkeys(map(str, range(5000)), 0)).encode(),
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"prompt=hi&max_tokens=1",
        b"null",
        b'"hi"',
        b"[]",
    ],
)
def test_odd_bodies_are_refused(patient: LiveServer, body: bytes) -> None:
    for answer in exchange(patient, post(body), post(body, b"expect: 100-continue")):
        assert_refused(answer)
        assert 408 not in statuses(answer)  # it was read to its end


VALUES: list[Any] = [
    float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, -0.0, 0.5, -0.5,
    0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**4000,
    True, False, None, "", "\0", "\ud800", "x" * 10_000, "NaN", "1", [], [[]], [None], [""],
    ["x"] * 5000, [2**40], [-1], {}, {"a": {}}, {"0": 1},
]  # fmt: skip


@pytest.mark.parametrize("field", GenerateRequest.model_fields)
def test_odd_values_of_a_field_do_no_harm(patient: LiveServer, field: str) -> None:
    bodies = [
        json.dumps({"prompt": "hi", "max_tokens": 4, field: value}).encode() for value in VALUES
    ]
    for answer in exchange(patient, *map(post, bodies)):
        if field == "timeout" and 504 in statuses(answer):
            continue  # it was asked for, and is documented
        assert_harmless(answer)
        assert 408 not in statuses(answer)


def test_snapshots_of_noise_are_refused(patient: LiveServer) -> None:
    noise = random.Random(1)
    path = "/sessions/ses-" + "0" * 32 + "/snapshot"
    bodies = [b"", b"\0" * 8, b"\xff" * 8, (2**63).to_bytes(8, "little") + b"{}"]
    bodies += [noise.randbytes(noise.randrange(1, 5000)) for _ in range(50)]
    with patient.client(headers={"content-type": "application/octet-stream"}) as client:
        for body in bodies:
            assert client.put(path, content=body).status_code == 422
