"""A real uvicorn in a thread, on a loopback port."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from causalrn.model.ops.cpu import jit
from causalrn.server.application import create_app
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.pooled_sessions import PooledSessions
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.sessions.sessions import Sessions
from causalrn.server.settings import Settings
from tests.server.fake_model import FakeModel

T = TypeVar("T")


def is_idle(engine: Engine) -> bool:
    """Whether nothing is held by anybody but idle sessions."""
    usage = engine.usage
    held = usage.running, usage.waiting, usage.slots_used, engine.reserved_bytes
    return held == (0, 0, 0, 0) and (usage.pages_used > 0) == (usage.sessions_warm > 0)


class LiveServer:
    """The address of a server, its app, and the model behind it."""

    def __init__(
        self,
        app: FastAPI,
        server: uvicorn.Server,
        model: FakeModel,
        loop: asyncio.AbstractEventLoop,
        port: int,
    ) -> None:
        self.app = app
        self._server = server
        self._loop = loop
        self.model = model
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def engine(self) -> Engine:
        engine: Engine = self.app.state.engines.default
        return engine

    @property
    def sessions(self) -> Sessions:
        sessions: Sessions = self.app.state.sessions
        return sessions

    @property
    def protocols(self) -> list[Any]:
        """uvicorn's side of the connections that are open."""
        return list(self._server.server_state.connections)

    @property
    def n_connections(self) -> int:
        """Connections that uvicorn has open."""
        return len(self._server.server_state.connections)

    @property
    def n_turns(self) -> int:
        """Turns of sessions that are being written."""
        return len(self.sessions.turns.running)

    @property
    def n_calls(self) -> int:
        """Calls of sessions that wait for the engine's thread."""
        return len(self.engine._mail.calls)  # which nothing outside of the engine needs to know

    @property
    def n_tasks(self) -> int:
        """Requests that uvicorn is busy with."""
        return len(self._server.server_state.tasks)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, **options)

    def post(self, body: Any, **options: Any) -> httpx.Response:
        """One `POST /generate` on a connection of its own; `body` is JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"} | options.pop("headers", {})
        with self.client() as client:
            return client.post("/generate", content=content, headers=headers, **options)

    def forget_sessions(self) -> None:
        """Let all sessions become cold; nothing else may be in the pool."""
        for engine in self.app.state.engines:
            for id in self.run(engine.call(PooledSessions.ids)):
                self.run(engine.call(PooledSessions.drop, id))
            assert engine.usage.pages_used == 0
        assert not len(self.sessions.locks)

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """A raw connection."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def send_generate(self, connection: socket.socket, body: Any) -> None:
        """A `POST /generate` on a raw connection."""
        content = json.dumps(body).encode()
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(content), content)
        )

    def wait_until_idle(self, seconds: float = 10) -> None:
        """Wait until nothing is held by anybody."""
        self.wait_until(lambda: all(map(is_idle, self.app.state.engines)), seconds)

    def wait_until(self, holds: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for something to hold, and fail if it never does."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain; {self.engine.usage}"
            time.sleep(0.002)


def wait_until_ready(url: str) -> None:
    """Wait until a server that listens has started, and fail if it ends before that.

    What keeps a started server from being ready, such as its session store, is not waited for.
    """
    with httpx.Client(base_url=url, timeout=20) as client:
        while (answer := client.get("/health/ready")).status_code == 503:
            if answer.json()["error"]["type"] != "starting":
                return
            assert "failed" not in answer.text, answer.text
            time.sleep(0.05)


@contextmanager
def serve(
    model: FakeModel,
    settings: Settings,
    *,
    load: Callable[[Path], ServedModel] | None = None,
    http: type[asyncio.Protocol] | str = "auto",
    ends_idle: bool = True,
    **options: Any,
) -> Iterator[LiveServer]:
    """Serve a fake model until the block ends; the model must never be misused.

    Args:
        model: to serve.
        settings: of the server.
        load: gives other models in its place.
        http: uvicorn's protocol; by default, that of plain uvicorn.
        ends_idle: check that nothing is held at the end; False if the test breaks the engine.
        options: of uvicorn.
    """
    jit.num_threads()  # here, as a server that has the main thread would; see `create_app`
    app = create_app(settings, load=load or (lambda _: model))
    config = uvicorn.Config(
        app, lifespan="on", log_level="warning", ws="none", http=http, **options
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = (config.get_loop_factory() or asyncio.new_event_loop)()
        thread = threading.Thread(target=_run, args=(loop, server.serve([listener])))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.002)
            live = LiveServer(app, server, model, loop, listener.getsockname()[1])
            wait_until_ready(live.url)
            yield live
            if ends_idle:
                live.wait_until_idle()
                live.wait_until(lambda: not live.n_turns)
                live.forget_sessions()
            assert model.decoder.misuses == []
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work)


def events(response: httpx.Response) -> list[Any]:
    """The events of a finished stream: JSON values, and "[DONE]"."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    data = [block.removeprefix("data: ") for block in blocks]
    assert all(block.startswith("data: ") for block in blocks)
    return [text if text == "[DONE]" else json.loads(text) for text in data]
