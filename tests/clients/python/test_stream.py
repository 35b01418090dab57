"""Streams of both clients, against real servers. The `connect` fixture fails on a leak."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from causalrn_client import (
    APIConnectionError,
    APITimeoutError,
    Chunk,
    Client,
    IncompleteStreamError,
    ResponseFormatError,
    ServiceUnavailableError,
    StreamError,
    UnprocessableEntityError,
)
from tests.clients.python.blocking import (
    AnyClient,
    busy_connections,
    expect_the_rest_within,
    open_connections,
)
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.raw_server import STREAM_HEAD, Reply, chunked, raw_server

PATIENCE_S = 10.0

CHUNK: dict[str, Any] = {
    "id": "gen-1",
    "model": "m",
    "text": "a",
    "token_ids": [97],
    "finish_reason": None,
}
LAST = CHUNK | {
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
FIRST_EVENT = chunked(f"data: {json.dumps(CHUNK)}\n\n".encode())
LAST_EVENT = chunked(f"data: {json.dumps(LAST)}\n\n".encode())
DONE_EVENT = chunked(b"data: [DONE]\n\n")


@pytest.mark.parametrize("text", ["hello", "Zürich → 東京 🚄", "\0\r\n\u2028data: \n\n"])
def test_a_stream_copies(client: AnyClient, server: ContractServer, text: str) -> None:
    with client.stream(text) as stream:
        chunks = list(stream)
        assert [chunk.text for chunk in chunks] == [*text, ""]
        assert [chunk.finish_reason for chunk in chunks] == [None] * len(text) + ["stop"]
    assert server.received[0].body == {"prompt": text, "stream": True}
    assert server.received[0].headers["accept"] == "text/event-stream"
    assert stream.result() == client.generate(text)


@pytest.mark.parametrize("n", [2, 3])
def test_a_stream_copies_several_times(client: AnyClient, n: int) -> None:
    with client.stream("hello", n=n) as stream:
        texts = [""] * n
        reasons: list[list[str | None]] = [[] for _ in texts]
        for chunk in stream:
            texts[chunk.index] += chunk.text
            reasons[chunk.index].append(chunk.finish_reason)
    assert texts == ["hello"] * n
    assert reasons == [[None] * 5 + ["stop"]] * n
    assert stream.result() == client.generate("hello", n=n)


def test_a_stream_needs_no_block(client: AnyClient) -> None:
    assert "".join(chunk.text for chunk in client.stream("hello")) == "hello"
    assert client.stream("hello").result().text == "hello"


def test_result_reads_what_is_left(client: AnyClient) -> None:
    with client.stream("hello") as stream:
        assert next(stream).text == "h"
        assert stream.result().text == "hello"
        assert stream.result().text == "hello"
        assert list(stream) == []


def test_chunks_come_while_the_server_still_writes(
    client: AnyClient, server: ContractServer
) -> None:
    server.hold()
    with client.stream("hello") as stream:
        assert next(stream).text == "h"
        server.release()
        assert stream.result().text == "hello"


def test_a_stream_that_is_never_read_is_never_sent(
    client: AnyClient, server: ContractServer
) -> None:
    stream = client.stream("hello")
    stream.close()
    assert list(stream) == []
    with pytest.raises(IncompleteStreamError):
        stream.result()
    assert server.received == []


def test_read_to_the_end_the_connection_is_used_again(client: AnyClient) -> None:
    for _ in range(3):
        with client.stream("hello") as stream:
            assert len(list(stream)) == 6
            assert busy_connections(client) == []  # before the block ends
    assert len(open_connections(client)) == 1


@pytest.mark.parametrize("n_read", [0, 1])
def test_leaving_the_block_ends_the_generation(
    client: AnyClient, server: ContractServer, n_read: int
) -> None:
    server.hold()
    with client.stream("hello") as stream:
        for _ in range(n_read):
            next(stream)
        assert len(busy_connections(client)) == 1
    assert busy_connections(client) == []
    assert server.disconnected.get(timeout=PATIENCE_S) == "hello"
    assert list(stream) == []
    with pytest.raises(IncompleteStreamError):
        stream.result()
    stream.close()


def test_an_exception_in_the_block_ends_the_generation(
    client: AnyClient, server: ContractServer
) -> None:
    server.hold()
    with pytest.raises(KeyError), client.stream("hello") as stream:  # noqa: PT012
        next(stream)
        raise KeyError
    assert busy_connections(client) == []
    assert server.disconnected.get(timeout=PATIENCE_S) == "hello"


def test_an_abandoned_stream_ends_with_its_last_reference(server: ContractServer) -> None:
    server.hold()
    with Client(server.url) as client:
        for chunk in client.stream("hello"):
            assert chunk.text == "h"
            break
        assert busy_connections(client) == []
        assert server.disconnected.get(timeout=PATIENCE_S) == "hello"


def test_a_refusal_is_raised_on_entering(client: AnyClient) -> None:
    entered = False
    with (
        pytest.raises(UnprocessableEntityError) as caught,
        client.stream("hello", max_tokens=0),
    ):
        entered = True
    assert not entered
    assert caught.value.param == "max_tokens"


def test_a_refused_stream_is_not_asked_for_again(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, max_retries=0)
    server.answer_next(Canned(503))
    stream = client.stream("hello")
    with pytest.raises(ServiceUnavailableError):
        next(stream)
    assert list(stream) == []
    with pytest.raises(IncompleteStreamError):
        stream.result()
    assert len(server.received) == 1


class BrokenBody(httpx.SyncByteStream):
    """The body of a refusal, broken in a transport that does not clean up by itself."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        raise httpx.ReadError("cut")

    def close(self) -> None:
        self.closed = True


def test_a_refusal_that_breaks_off_is_closed() -> None:
    body = BrokenBody()
    transport = httpx.MockTransport(lambda _: httpx.Response(422, stream=body))
    with (
        httpx.Client(transport=transport) as http,
        Client(max_retries=0, http_client=http) as client,
        pytest.raises(APIConnectionError, match="cut"),
    ):
        client.stream("hello").result()
    assert body.closed


def test_an_error_event(client: AnyClient, server: ContractServer) -> None:
    error = {"type": "engine_error", "message": "out of luck", "param": None}
    server.answer_next(Canned.events(CHUNK, {"error": error}))
    stream = client.stream("hello")
    assert next(stream).text == "a"
    with pytest.raises(StreamError) as caught:
        next(stream)
    assert (caught.value.type, caught.value.message) == ("engine_error", "out of luck")
    assert busy_connections(client) == []
    assert list(stream) == []
    assert len(server.received) == 1


def test_a_deadline_in_mid_stream(client: AnyClient, server: ContractServer) -> None:
    error = {"type": "deadline_exceeded", "message": "longer than 2 s", "param": None}
    server.answer_next(
        Canned.events(LAST | {"usage": None}, CHUNK | {"index": 1}, {"error": error})
    )
    with client.stream("hello", n=2) as stream:
        assert [next(stream).index for _ in range(2)] == [0, 1]
        with pytest.raises(StreamError, match="longer than 2 s") as caught:
            next(stream)
        assert caught.value.type == "deadline_exceeded"
        with pytest.raises(IncompleteStreamError):
            stream.result()
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Canned.events(CHUNK, "{"),
        Canned.events(CHUNK, "[DONE]"),
        Canned.events(CHUNK | {"index": 1}, LAST, "[DONE]"),
        Canned(body=b"data: [DONE]\n\n", headers={"content-type": "text/plain"}),
        Canned(body=b"<html>", headers={"content-type": "text/html"}),
        Canned(),
    ],
)
def test_another_answer_is_a_format_error(
    client: AnyClient, server: ContractServer, answer: Canned
) -> None:
    server.answer_next(answer)
    stream = client.stream("hello")
    with pytest.raises(ResponseFormatError):
        stream.result()
    assert busy_connections(client) == []
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        FIRST_EVENT,
        FIRST_EVENT[:-20],
        FIRST_EVENT + chunked(b""),  # a proper end of the body, but not of the stream
        FIRST_EVENT + LAST_EVENT,
        FIRST_EVENT + LAST_EVENT + chunked(b""),
    ],
    ids=["nothing", "first", "half", "first-end", "last", "last-end"],
)
def test_a_cut_stream_is_incomplete_and_not_retried(connect: Connect, content: bytes) -> None:
    with raw_server(Reply(STREAM_HEAD + content)) as server:
        client = connect(server.url)
        with client.stream("hello") as stream:
            with pytest.raises(IncompleteStreamError):
                list(stream)
            assert busy_connections(client) == []
            with pytest.raises(IncompleteStreamError):
                stream.result()
        assert server.connections == 1


def test_a_connection_cut_before_the_answer_is_retried(connect: Connect) -> None:
    whole = STREAM_HEAD + FIRST_EVENT + LAST_EVENT + DONE_EVENT + chunked(b"")
    with raw_server(Reply(), Reply(whole)) as server:
        assert connect(server.url).stream("hello").result().text == "aa"
        assert server.connections == 2


def test_a_connection_cut_before_the_answer_is_an_error_in_the_end(connect: Connect) -> None:
    with raw_server() as server:
        with pytest.raises(APIConnectionError), connect(server.url, max_retries=0).stream("hello"):
            raise AssertionError("the block was entered")
        assert server.connections == 1


@pytest.mark.parametrize(
    "end",
    [
        Reply(b""),  # cut after the last event: the answer is complete all the same
        Reply(b"", then_silence=True),
        Reply(chunked(b"data: more") * 3, then_silence=True),
    ],
)
def test_nothing_after_done_matters(connect: Connect, end: Reply) -> None:
    content = STREAM_HEAD + FIRST_EVENT + LAST_EVENT + DONE_EVENT + end.content
    with raw_server(Reply(content, end.then_silence)) as server:
        client = connect(server.url, timeout=PATIENCE_S)
        expect_the_rest_within(client, 0.5)
        assert client.stream("hello").result().text == "aa"
        assert busy_connections(client) == []


@pytest.mark.parametrize(
    "content", [b"", STREAM_HEAD, STREAM_HEAD + FIRST_EVENT], ids=["nothing", "head", "first"]
)
def test_a_stalled_stream_times_out(connect: Connect, content: bytes) -> None:
    with raw_server(Reply(content, then_silence=True)) as server:
        read_s = PATIENCE_S if content else 0.5
        client = connect(server.url, timeout=httpx.Timeout(PATIENCE_S, read=read_s))
        expect_the_rest_within(client, 0.5)
        chunks: list[Chunk] = []
        with pytest.raises(APITimeoutError) as caught:
            chunks.extend(client.stream("hello"))
        assert caught.value.phase == "read"
        assert len(chunks) == content.count(b"data:")
        assert busy_connections(client) == []
        assert server.connections == 1


def test_comments_are_signs_of_life(connect: Connect) -> None:
    head = STREAM_HEAD + FIRST_EVENT
    rest = LAST_EVENT + DONE_EVENT + chunked(b"")
    drip = (chunked(b": still there\n\n"),) * 10  # for two seconds
    with raw_server(Reply(head, drip=(*drip, rest))) as server:
        client = connect(server.url, timeout=PATIENCE_S)
        expect_the_rest_within(client, 1.5)
        chunks = list(client.stream("hello"))
        assert [chunk.text for chunk in chunks] == ["a", "a"]


def test_many_streams_at_once_do_not_mix(client: AnyClient) -> None:
    texts = [f"stream {n}" for n in range(8)]
    streams = [client.stream(text) for text in texts]
    copies = [""] * len(texts)
    for _ in range(len(texts[0])):
        for n, stream in enumerate(streams):
            copies[n] += next(stream).text
    assert copies == texts
    assert [stream.result().text for stream in streams] == texts
