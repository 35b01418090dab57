import asyncio
import concurrent.futures
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from causalrn.server.api.formats.generate import GenerateFormat
from causalrn.server.api.streaming import EventStream, unless_disconnected
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.token_stream import TokenStream
from tests.programs import program
from tests.server.conftest import Gate, make_settings, pool_of
from tests.server.fake_model import FakeModel, VerboseTokenizer
from tests.server.in_loop import in_loop
from tests.server.live_server import LiveServer, events, serve


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_everything(
    model: FakeModel, gate: Gate, stream: bool, how: str
) -> None:
    with serve(model, make_settings()) as live:
        model.decoder.before_extend = gate
        connection = live.connect()
        live.send_generate(connection, {"prompt": "x" * 400, "stream": stream})
        assert gate.reached.wait(10)
        assert live.engine.usage.pages_used == 2  # of a budget of 32 tokens a step
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        live.wait_until(lambda: live.engine.n_streams == 0)
        n_steps = len(model.decoder.batches)
        gate.open()
        live.wait_until_idle()
        assert len(model.decoder.batches) <= n_steps + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_the_queue_frees_its_place(
    model: FakeModel, gate: Gate, stream: bool
) -> None:
    with (
        serve(model, make_settings(max_running=1, max_waiting=1)) as live,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        model.decoder.before_extend = gate
        connections = [live.connect() for _ in range(2)]
        for connection in connections:
            live.send_generate(connection, {"prompt": "x" * 400, "stream": stream})
        live.wait_until(lambda: live.engine.n_streams == 2)
        assert live.post({"prompt": "hello"}).status_code == 503  # there is no place left
        for connection in connections:
            connection.close()
        live.wait_until(lambda: live.engine.n_streams == 0)
        answer = pool.submit(live.post, {"prompt": "hello"})
        live.wait_until(lambda: live.engine.n_streams == 1)
        n_steps = len(model.decoder.batches)
        gate.open()
        assert answer.result(20).json()["text"] == "hello"
        live.wait_until_idle()
        # A prompt that was left took 13 steps of 32 tokens; this one and its answer took fewer.
        assert len(model.decoder.batches) < n_steps + 13


def test_half_of_32_clients_drop_and_the_rest_get_exact_copies(model: FakeModel) -> None:
    with serve(model, make_settings(max_waiting=40)) as live:

        def run_client(number: int) -> bool:
            text = f"client number {number}: " + "äöü 世界 " * (number % 7)
            body = {"prompt": text, "stream": True}
            with (
                live.client() as client,
                client.stream("POST", "/generate", json=body) as response,
            ):
                if number % 2:
                    next(response.iter_lines())
                    return True
                response.read()
                *chunks, done = events(response)
                assert done == "[DONE]"
                return "".join(chunk["text"] for chunk in chunks) == text

        with concurrent.futures.ThreadPoolExecutor(32) as clients:
            assert all(clients.map(run_client, range(32)))
        live.wait_until_idle()
        assert max(n for n, _ in model.decoder.batches) > 1


def test_a_silent_stream_has_comments_from_its_beginning(
    model: FakeModel, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventStream, "comment_seconds", 0.05)
    with (
        serve(model, make_settings()) as live,
        live.client() as client,
        held(model, gate),
        client.stream("POST", "/generate", json={"prompt": "hi", "stream": True}) as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        assert [next(lines) for _ in range(6)] == [":", ""] * 3  # before any token is made
        gate.open()
        data = [line for line in lines if line and line != ":"]
        assert data[0].startswith('data: {"id":')
        assert data[-1] == "data: [DONE]"


@pytest.mark.parametrize("comment_seconds", [0.25, 60.0])
def test_a_proxy_that_loses_patience_with_silence_passes_the_whole_stream_on(
    model: FakeModel,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    comment_seconds: float,
) -> None:
    monkeypatch.setattr(EventStream, "comment_seconds", comment_seconds)
    with (
        serve(model, make_settings()) as live,
        nginx(tmp_path, live.port, read_timeout=2) as url,
        httpx.Client(base_url=url, timeout=20) as client,
        held(model, gate),
        client.stream("POST", "/generate", json={"prompt": "hi", "stream": True}) as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        if comment_seconds > 2:  # what the comments are for
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        else:
            assert [next(lines) for _ in range(24)] == [":", ""] * 12  # which take 3 seconds
            gate.open()
            assert list(lines)[-2:] == ["data: [DONE]", ""]


@contextmanager
def held(model: FakeModel, gate: Gate) -> Iterator[None]:
    """Let a model that is served make no step until the gate is open, or the block ends."""
    model.decoder.before_extend = gate
    try:
        yield
    finally:
        gate.open()


@contextmanager
def nginx(folder: Path, port: int, *, read_timeout: int) -> Iterator[str]:
    """The address of an nginx in front of a server, which waits that many seconds for more."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        front = free.getsockname()[1]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {folder}/pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
            server {{
                listen 127.0.0.1:{front};
                location / {{
                    proxy_pass http://127.0.0.1:{port};
                    proxy_read_timeout {read_timeout}s;
                }}
            }}
        }}
        """
    )
    command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                assert process.poll() is None
                try:
                    socket.create_connection(("127.0.0.1", front), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield f"http://127.0.0.1:{front}"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def verbose() -> Iterator[LiveServer]:
    model = FakeModel(VerboseTokenizer())
    with serve(model, make_settings(pool_bytes=100_000, max_batch_tokens=1000)) as live:
        yield live


def stall(live: LiveServer) -> socket.socket:
    """Ask for ten million characters, more than all buffers on the way take, and read one."""
    connection = live.connect(receive_buffer=4096)
    live.send_generate(connection, {"prompt": "x" * 1000, "stream": True})
    assert connection.recv(1) == b"H"
    return connection


def test_a_reader_that_stops_reading_holds_nobody_up(verbose: LiveServer) -> None:
    with stall(verbose) as connection:
        assert verbose.post({"prompt": "y"}).json()["text"] == "y" * 10_000
        # Its tokens are made and its pages are free though it has not read them.
        verbose.wait_until_idle()
        assert verbose.n_tasks == 1
        data = bytearray()
        while not data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            data += connection.recv(1 << 20)
    others = sum(data.count(word) for word in (b"text", b"index", b"x-"))
    assert data.count(b"x") - others == 10_000_000
    # It lagged, so it got fewer events than tokens.
    assert data.count(b"data: ") < 1000


def test_a_reader_that_stops_reading_and_leaves_frees_its_task(verbose: LiveServer) -> None:
    with stall(verbose):
        assert verbose.n_tasks == 1
    verbose.wait_until(lambda: verbose.n_tasks == 0)


@pytest.fixture(scope="module")
def roomy() -> Iterator[LiveServer]:
    """A server with room for some thousand tokens."""
    with serve(FakeModel(), pool_of(512)) as live:
        yield live


@in_loop
async def test_others_run_between_the_pieces_of_a_long_delta() -> None:
    n = 20_000
    stream = TokenStream("gen-0", 1, lambda _: None)
    stream.push(Delta([65] * n, "A" * n, "length", places=list(range(n))))
    turns = [0]
    turns_at_events = []

    async def take_turns() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async def send(message: Message) -> None:
        if message.get("body", b"").startswith(b'data: {"id"'):
            turns_at_events.append(turns[0])

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    other = asyncio.create_task(take_turns())
    await EventStream(stream, GenerateFormat(stream))({}, receive, send)
    other.cancel()
    assert len(turns_at_events) > 2
    assert len(set(turns_at_events)) == len(turns_at_events)


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
def test_no_event_is_larger_than_clients_take(roomy: LiveServer, path: str) -> None:
    """An echo is one piece to the engine; so is what a slow reader has not read yet."""
    text = "é\0🚄" * 60
    ids = [256, *text.encode(), 257]
    field = "token_ids" if path == "/generate" else "prompt"
    ask: dict[str, Any] = {field: ids, "mode": "raw", "echo": True, "logprobs": 20}
    ask |= {"max_tokens": 3, "stop": "\0x", "stream": True}
    with roomy.client() as client:
        response = client.post(path, json=ask)
    lines = response.content.split(b"\n")
    assert sum(map(len, lines)) > 64 * 1024
    assert max(map(len, lines)) <= len("data: ") + 64 * 1024
    *chunks, done = events(response)
    assert done == "[DONE]"
    assert len(chunks) < 20  # and they are not much smaller
    parts = [chunk if path == "/generate" else chunk["choices"][0] for chunk in chunks]
    seen, read = "", bytearray()
    for part in parts:
        seen += part["text"]
        read += bytes(id for id in part["token_ids"] if id < 256)
        assert read.decode(errors="ignore").startswith(seen)
    assert seen == text + "é\0"
    assert bytes(read) == seen.encode()
    reasons = [part["finish_reason"] for part in parts]
    assert reasons == [None] * (len(parts) - 1) + ["length"]
    logprobs = [part["logprobs"] for part in parts]
    names = [one if path == "/generate" else one["tokens"] for one in logprobs]
    assert sum(map(len, names)) == len(ids) + 3


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
@pytest.mark.parametrize("logprobs", [None, 2])
def test_every_event_is_one_line_to_every_reader(
    roomy: LiveServer, path: str, logprobs: int | None
) -> None:
    text = "one\u2028two\u2029three\u0085four\x0bfive\x1csix\r\nseven"
    ask = {"prompt": text, "stream": True, "logprobs": logprobs}
    with roomy.client() as client:
        response = client.post(path, json=ask)
    assert response.content.decode().splitlines() == response.content.decode().split("\n")[:-1]
    *chunks, _ = events(response)
    parts = [chunk if path == "/generate" else chunk["choices"][0] for chunk in chunks]
    assert "".join(part["text"] for part in parts) == text


async def _never() -> Any:
    await asyncio.Event().wait()


def test_work_is_cancelled_when_the_client_leaves() -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await _never()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        asyncio.run(unless_disconnected(receive, work()))
    assert cancelled


def test_the_result_of_work_and_its_exceptions_pass() -> None:
    async def fine() -> int:
        return 5

    async def broken() -> int:
        raise ZeroDivisionError

    assert asyncio.run(unless_disconnected(_never, fine())) == 5
    with pytest.raises(ZeroDivisionError):
        asyncio.run(unless_disconnected(_never, broken()))
