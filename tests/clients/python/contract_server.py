"""A server that speaks the contract: it copies what it is sent, and misbehaves when told to."""

import asyncio
import json
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.clients.python.contract_sessions import ContractSessions

MODEL = "copy-bytes"
GENERATION: dict[str, Any] = {
    "id": "gen-1",
    "model": "copy-bytes",
    "text": "hi",
    "token_ids": [104, 105],
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}


@dataclass(frozen=True)
class Canned:
    """An answer to give in place of the copy."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def error(cls, status: int, kind: str, message: str, param: str | None = None) -> Self:
        body = {"error": {"type": kind, "message": message, "param": param}}
        return cls(status, json.dumps(body).encode(), {"x-request-id": "made-by-server"})

    @classmethod
    def of(cls, value: object, status: int = 200) -> Self:
        """JSON."""
        return cls(status, json.dumps(value).encode())

    @classmethod
    def events(cls, *data: object) -> Self:
        """A complete stream: JSON for each value, strings as they are."""
        texts = [value if isinstance(value, str) else json.dumps(value) for value in data]
        body = "".join(f"data: {text}\n\n" for text in texts).encode()
        return cls(body=body, headers={"content-type": "text/event-stream"})


@dataclass(frozen=True)
class Received:
    """A request, as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    query: str = ""


class ContractServer:
    """A real uvicorn on a loopback port, in a thread; a context manager."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.disconnected: queue.Queue[str] = queue.Queue()
        self.sessions = ContractSessions()
        self._canned: deque[Canned] = deque()
        self._held = False
        self._gate = asyncio.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app(), loop="asyncio", http="h11", ws="none", lifespan="off", log_level="error"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self._thread.start()  # the socket listens already, so nobody need wait
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()
        assert not self._thread.is_alive()

    def reset(self) -> None:
        self.received.clear()
        self.sessions.clear()
        self._canned.clear()
        self.release()
        while not self.disconnected.empty():
            self.disconnected.get_nowait()

    def answer_next(self, *answers: Canned) -> None:
        """Gives these answers to the next requests, whatever they ask."""
        self._canned.extend(answers)

    def hold(self) -> None:
        """Makes streams wait after their first chunk."""
        self._call_on_loop(self._gate.clear)
        self._held = True

    def release(self) -> None:
        """Lets streams go on."""
        self._held = False
        self._call_on_loop(self._gate.set)

    def _call_on_loop(self, change: Callable[[], None]) -> None:
        if self._loop is None:
            change()  # no request came yet, so nobody waits at the gate
        else:
            self._loop.call_soon_threadsafe(change)

    def _app(self) -> Starlette:
        paths = [("/generate", self._generate), ("/info", self._info), ("/health/ready", self._ok)]
        routes = [
            Route(prefix + path, handler, methods=["GET", "POST"])
            for path, handler in paths
            for prefix in ("", "/behind/a/proxy")
        ]
        methods = ["GET", "POST", "PUT", "DELETE"]
        routes.append(Route("/sessions{rest:path}", self._sessions, methods=methods))
        routes.append(Route("/{rest:path}", self._canned_only, methods=methods))
        return Starlette(routes=routes)

    async def _receive(self, request: Request) -> Canned | None:
        self._loop = asyncio.get_running_loop()
        try:
            raw = await request.body()
        except ClientDisconnect:
            return Canned()  # for nobody
        is_json = request.headers.get("content-type") == "application/json"
        body = json.loads(raw) if raw and is_json else raw or None
        path = request.scope["raw_path"].decode()
        query = request.scope["query_string"].decode()
        self.received.append(Received(request.method, path, request.headers, body, query))
        return self._canned.popleft() if self._canned else None

    async def _ok(self, request: Request) -> Response:
        canned = await self._receive(request)
        return _respond(canned) if canned else JSONResponse({"status": "ready"})

    async def _canned_only(self, request: Request) -> Response:
        missing = Canned.error(404, "not_found", "there is nothing here")
        return _respond(await self._receive(request) or missing)

    async def _info(self, request: Request) -> Response:
        if canned := await self._receive(request):
            return _respond(canned)
        return JSONResponse(
            {
                "model": MODEL,
                "fingerprint": "00ff",
                "version": "9.9.9",
                "config": {"d_model": 64, "mixers": ["separable", "normalized"]},
                "tokenizer": {"name": "bytes", "vocab_size": 259},
                "limits": {"max_seq_len": 4096},
                "moon_phase": "waxing",
            }
        )

    async def _sessions(self, request: Request) -> Response:
        if canned := await self._receive(request):
            return _respond(canned)
        return self.sessions.answer(self.received[-1])

    async def _generate(self, request: Request) -> Response:
        if canned := await self._receive(request):
            return _respond(canned)
        body = self.received[-1].body
        if body.get("session_id") is not None:
            turn = self.sessions.turn(body)
            if isinstance(turn, Response):
                return turn
            whole = _generation(body, turn.ids) | {"session": turn.usage}
        elif body.get("max_tokens") == 0:
            message = "max_tokens must be at least 1"
            return _respond(Canned.error(422, "invalid_request_error", message, "max_tokens"))
        else:
            whole = _generation(body)
        return _CopyStream(self, whole) if body.get("stream") else JSONResponse(whole)


class _CopyStream(Response):
    """Streams copies, a character a chunk; notices at once when its client goes away."""

    def __init__(self, server: ContractServer, whole: Mapping[str, Any]) -> None:
        self._server = server
        self._whole = whole

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        whole, text = self._whole, self._whole["text"]
        n = len(whole.get("samples", [text]))
        piece = {name: whole[name] for name in ("id", "model")} | {"finish_reason": None}
        for character in text:
            chunk = piece | {"text": character, "token_ids": list(character.encode())}
            for index in range(n):
                await _send_event(send, json.dumps(chunk | {"index": index}))
                if self._server._held and await self._client_left(receive):
                    self._server.disconnected.put(text)
                    return
        for index in range(n):
            last = piece | {"index": index, "text": "", "token_ids": [], "finish_reason": "stop"}
            if index == n - 1:
                last |= {name: whole[name] for name in ("usage", "session") if name in whole}
            await _send_event(send, json.dumps(last))
        await _send_event(send, "[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _client_left(self, receive: Receive) -> bool:
        released = asyncio.ensure_future(self._server._gate.wait())
        left = asyncio.ensure_future(receive())
        await asyncio.wait([released, left], return_when=asyncio.FIRST_COMPLETED)
        released.cancel()
        left.cancel()
        return left.done() and not left.cancelled()


async def _send_event(send: Send, data: str) -> None:
    body = f"data: {data}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _respond(canned: Canned) -> Response:
    return Response(canned.body, canned.status, dict(canned.headers))


def _generation(body: Mapping[str, Any], ids: list[int] | None = None) -> dict[str, Any]:
    if ids is None:
        ids = body["token_ids"] if "token_ids" in body else list(body["prompt"].encode())
    n = body.get("n", 1)
    n_read, n_written = len(ids) + 2, len(ids) * n
    copy = {
        "text": bytes(ids).decode(errors="replace"),
        "token_ids": ids,
        "finish_reason": "stop",
    }
    generation = copy | {
        "id": "gen-1",
        "model": MODEL,
        "usage": {
            "prompt_tokens": n_read,
            "completion_tokens": n_written,
            "total_tokens": n_read + n_written,
        },
        "field_of_a_later_version": True,
    }
    if n > 1:
        generation["samples"] = [{"index": index} | copy for index in range(n)]
    return generation


def tokens(*ids: int) -> Canned:
    """The answer to a text that has these token ids."""
    return Canned.of({"count": len(ids), "max_model_len": 64, "tokens": ids})


def asked(server: ContractServer) -> list[tuple[str, str]]:
    """The method and the path of every request that a server received."""
    return [(received.method, received.path) for received in server.received]
