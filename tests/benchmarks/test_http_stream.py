import asyncio
import json

import pytest

from benchmarks.http_stream import Reply, count_ids, post, read_reply, timelines

CHUNKS = ['{"token_ids":[1,2],"text":"ab"}', '{"token_ids":[],"text":"é"}', "[DONE]"]


def streamed(*data: str) -> bytes:
    """A whole event stream, each event a chunk of its own."""
    events = [f"data: {one}\n\n".encode() for one in data]
    body = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    return head + body + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    whole = streamed(*CHUNKS)
    starts = range(0, len(whole), size)
    reply = read_reply([(float(at), whole[at : at + size]) for at in starts])
    assert (reply.status, reply.is_whole) == (200, True)
    assert [data for _, data in reply.events] == CHUNKS
    for moment, data in reply.events:  # the piece in which the event ends
        end = whole.index(data.encode()) + len(data.encode()) + 2
        assert moment <= end - 1 < moment + size


def test_a_refusal_is_read() -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n\r\n{}"
    reply = read_reply([(0.0, answer)])
    assert reply == Reply(503, {"retry-after": "1", "content-length": "2"}, b"{}", [], True)


def test_an_answer_that_is_cut_off_is_not_whole() -> None:
    assert not read_reply([(0.0, streamed(*CHUNKS)[:-5])]).is_whole
    assert read_reply([]) == Reply()


def test_tokens_are_counted() -> None:
    assert [count_ids(data) for data in CHUNKS] == [2, 0, 0]
    with pytest.raises(ValueError, match="engine_error"):
        count_ids('{"error":{"type":"engine_error"}}')


async def exchange(answer: bytes) -> tuple[bytes, list[float]]:
    """Post to a server that gives this answer: what it got, and when tokens came."""
    got = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        head = await reader.readuntil(b"\r\n\r\n")
        n_bytes = int(head.lower().split(b"content-length: ")[1].split()[0])
        got = head + await reader.readexactly(n_bytes)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        recording = await post(f"http://{host}:{port}", "/generate", {"prompt": "é"})
    [timeline] = timelines([recording], count_ids, 2)
    assert timeline.began <= timeline.arrivals[0]
    return got, timeline.arrivals


def test_a_request_is_sent_and_its_stream_recorded() -> None:
    got, arrivals = asyncio.run(exchange(streamed(*CHUNKS)))
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /generate HTTP/1.1\r\n")
    assert json.loads(body) == {"prompt": "é"}
    assert len(arrivals) == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", streamed("[DONE]"), b""]
)
def test_streams_that_are_not_what_was_asked_for_end_a_benchmark(answer: bytes) -> None:
    with pytest.raises(SystemExit):
        asyncio.run(exchange(answer))
