import gzip
import json
import socket
from contextlib import ExitStack

import pytest

from causalrn.server.errors import MalformedBodyError
from causalrn.server.http.json_body import MAX_CONTAINERS, parse_json
from tests.server.live_server import LiveServer
from tests.server.raw_http import unharmed

LIMIT = 64 * 1024
SNAPSHOT = "/sessions/ses-" + "0" * 32 + "/snapshot"
FITS = json.dumps({"prompt": "hi"}).encode().ljust(LIMIT)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_what_does_not_call_itself_json_is_415(shared: LiveServer, content_type: str) -> None:
    headers = {"content-type": content_type}
    response = shared.post({"prompt": "hi"}, headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["type"] == "unsupported_media_type"
    assert "content-type: application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8";x=y',
        "Application/JSON",
        "application/vnd.copy+json",
    ],
)
def test_names_of_json(shared: LiveServer, content_type: str) -> None:
    response = shared.post({"prompt": "hi"}, headers={"content-type": content_type})
    assert response.status_code == 200


def test_a_mark_of_the_byte_order_is_skipped(shared: LiveServer) -> None:
    assert shared.post(b'\xef\xbb\xbf{"prompt": "hi"}').json()["text"] == "hi"
    with pytest.raises(MalformedBodyError, match="not UTF-8 from byte 6 on"):
        parse_json(b'\xef\xbb\xbf{"a\xff":1}')


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "x; y"])
@pytest.mark.parametrize("method_and_path", ["POST /generate", f"PUT {SNAPSHOT}"])
def test_a_compressed_body_is_415_and_says_what_is_right(
    shared: LiveServer, encoding: str, method_and_path: str
) -> None:
    method, path = method_and_path.split()
    media_type = "application/json" if method == "POST" else "application/octet-stream"
    headers = [("content-type", media_type), ("content-encoding", encoding)]
    content = gzip.compress(b'{"prompt": "hi"}')
    with shared.client() as client:
        response = client.request(method, path, content=content, headers=headers)
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    error = response.json()["error"]
    assert error["type"] == "unsupported_encoding"
    assert "without 'content-encoding: " in error["message"]


def test_an_encoding_that_changes_nothing_is_read(shared: LiveServer) -> None:
    headers = {"content-encoding": "Identity"}
    assert shared.post({"prompt": "hi"}, headers=headers).json()["text"] == "hi"


def test_a_body_of_exactly_the_limit_is_read(shared: LiveServer) -> None:
    assert shared.post(FITS).json()["text"] == "hi"


def test_a_body_over_the_limit_is_413_and_the_connection_goes_on(shared: LiveServer) -> None:
    with shared.client(headers={"content-type": "application/json"}) as client:
        response = client.post("/generate", content=FITS + b" ")
        assert response.status_code == 413
        assert response.json() == {
            "error": {
                "type": "body_too_large",
                "message": "the body is larger than the limit of 65536 bytes",
                "param": None,
            }
        }
        assert client.post("/generate", content=FITS).status_code == 200


def chunked_head() -> bytes:
    return (
        b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )


def status(connection: socket.socket) -> bytes:
    return connection.recv(65536)[9:12]


def test_the_limit_counts_while_reading_where_no_length_is_declared(shared: LiveServer) -> None:
    with shared.connect() as connection:
        connection.sendall(chunked_head())
        piece = b"400\r\n" + b" " * 1024 + b"\r\n"
        connection.sendall(piece * 65)
        # The body is not over; the answer does not wait for it.
        assert status(connection) == b"413"


def test_a_declared_length_over_the_limit_is_refused_unread(shared: LiveServer) -> None:
    with shared.connect() as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            b"content-length: 99999999999999\r\n\r\n"
        )
        assert status(connection) == b"413"


def test_a_body_in_small_pieces_is_read(shared: LiveServer) -> None:
    with shared.connect() as connection:
        connection.sendall(chunked_head())
        for byte in b'{"prompt": "hi"}':
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        assert status(connection) == b"200"


def test_a_client_that_leaves_in_mid_body_leaves_no_trace(shared: LiveServer) -> None:
    with unharmed(shared):
        with shared.connect() as connection:
            connection.sendall(chunked_head() + b"1\r\n{\r\n")
            shared.wait_until(lambda: shared.n_tasks == 1)
        shared.wait_until(lambda: shared.n_tasks == 0)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_of_any_depth_is_refused(opening: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="nested too deeply"):
        parse_json(opening * 100_000)


def test_a_key_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(MalformedBodyError, match="the key 'b' appears twice"):
        parse_json(b'{"a": [{"b": 1, "c": 2, "b": 3}]}')


def test_an_object_of_absurdly_many_keys_is_refused() -> None:
    many = json.dumps(dict.fromkeys(map(str, range(2000)), 0)).encode()
    with pytest.raises(MalformedBodyError, match="has 2000 keys, the limit is 1024"):
        parse_json(many)


def test_many_values_are_parsed_as_few_are() -> None:
    few = {"a": [1, -2.5, 3e2, "é\\ud83d\\ude00", None, True, {}], "b": [[]], "": "[{,"}
    many = {**few, "ids": list(range(50_000))}
    assert parse_json(json.dumps(many).encode()) == many
    for odd in ('"x"', "1 2", "[1,]", '{"a":1,"a":2}', "nope", "[" * 100, "9" * 5000):
        few_said, many_said = (refusal(f"[{ids}{odd}".encode()) for ids in ("", "0," * 50_000))
        assert few_said.split(" at ")[0] == many_said.split(" at ")[0]


@pytest.mark.parametrize("item", ["[]", "{}", '{"a":[]}'])
def test_a_body_of_very_many_containers_is_refused_before_it_is_parsed(item: str) -> None:
    body = f"[{','.join([item] * 300_000)}]".encode()
    assert refusal(body) == f"the body has more than {MAX_CONTAINERS} lists and objects"


def refusal(body: bytes) -> str:
    with pytest.raises(MalformedBodyError) as error:
        parse_json(body)
    return error.value.message


def test_large_bodies_that_never_end_are_bounded_and_stop_nobody_else(live: LiveServer) -> None:
    head = FITS[: LIMIT // 2]
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(live.connect())
            connection.sendall(
                b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (LIMIT, head)
            )
        room = live.app.state.body_room
        live.wait_until(lambda: room.n_bytes > 15 * LIMIT)
        refused = live.post(FITS)
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert live.post({"prompt": "hi"}).json()["text"] == "hi"
    live.wait_until(lambda: room.n_bytes == 0)
    assert live.post(FITS).json()["text"] == "hi"
