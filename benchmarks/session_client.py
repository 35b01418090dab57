"""Requests to a server's sessions, for programs that may lose the server at any moment."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Self

from benchmarks.http_stream import Recording, Reply, sending
from causalrn.model.config import ModelConfig

_REQUEST_SECONDS = 120
_PAGE = 100  # sessions listed by one request
_IDLE_SECONDS = 10
_JSON, _FILE = "application/json", "application/octet-stream"


class ServerGoneError(ConnectionError):
    """The connection ended before the answer did."""


class RefusedError(RuntimeError):
    """The server answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what}: status {reply.status}, {reply.body.decode(errors='replace')}")
        self.status = reply.status


@dataclass(frozen=True)
class Part:
    """As much of the answer to a turn as came; more may have been on its way.

    Attributes:
        began, first, last: when the request was sent, and when the first and the last tokens came,
            in seconds of one clock; the latter two None if no tokens came.
        accepted: whether the server began to answer.
        token_ids: the generated ids that came.
        finish_reason: None if the end did not come.
        usage, session: as at the end of the answer; empty if that did not come.
    """

    began: float
    first: float | None
    last: float | None
    accepted: bool
    token_ids: list[int]
    finish_reason: str | None
    usage: dict[str, int]
    session: dict[str, Any]

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """Read what was recorded.

        Raises:
            RefusedError: the answer is an error, or ends with one.
        """
        reply = recording.reply()
        if reply.status not in (0, 200) and reply.is_whole:
            raise RefusedError("a turn", reply)
        is_json = reply.headers.get("content-type") == _JSON
        if is_json:
            moment = recording.pieces[-1][0]
            found = [(moment, json.loads(reply.body))] if reply.is_whole else []
        else:
            found = [(at, json.loads(data)) for at, data in reply.events if data != "[DONE]"]
        for _, chunk in found:
            if "error" in chunk:
                raise RefusedError(f"a turn, after it began: {chunk}", reply)
        end = found[-1][1] if found else {}
        return cls(
            recording.began,
            found[0][0] if found else None,
            found[-1][0] if found else None,
            reply.status == 200 and (reply.is_whole or not is_json),
            [id for _, chunk in found for id in chunk["token_ids"]],
            end.get("finish_reason"),
            end.get("usage", {}),
            end.get("session", {}),
        )


class SessionClient:
    """Sends requests to one server.

    Every method raises `RefusedError` if the server answers with an error, `ServerGoneError` if the
    connection ends before the answer does, and another `OSError` if there is no connection.

    Args:
        url: of the server, `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    async def create(self) -> str:
        """Make a session, and return its id."""
        return str((await self._json("POST", "/sessions", {}))["id"])

    async def fork(self, id: str) -> str:
        """Make a session that goes on from another one, and return its id."""
        return str((await self._json("POST", f"/sessions/{id}/fork", {}))["id"])

    async def get(self, id: str) -> dict[str, Any]:
        """A session with its log."""
        found: dict[str, Any] = await self._json("GET", f"/sessions/{id}?include=token_ids")
        return found

    async def list(self) -> list[dict[str, Any]]:
        """All sessions."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = await self._json("GET", f"/sessions?limit={_PAGE}{after}")
            found += page["sessions"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    async def delete(self, id: str) -> None:
        """Remove a session."""
        await self._exchange("DELETE", f"/sessions/{id}")

    async def save(self, id: str) -> bytes:
        """A session's snapshot."""
        return (await self._exchange("GET", f"/sessions/{id}/snapshot")).body

    async def restore(self, id: str, snapshot: bytes) -> None:
        """Make a session of a snapshot; one that has the id already is replaced."""
        await self._exchange("PUT", f"/sessions/{id}/snapshot", snapshot, _FILE)

    async def turn(
        self,
        id: str | None,
        token_ids: Sequence[int],
        *,
        leave_after: float | None = None,
        stream: bool = True,
        **options: Any,
    ) -> Part:
        """Run one turn. What came of it is returned even if the connection ended before the answer.

        Args:
            id: of the session; None for a request without one.
            token_ids: of the prompt.
            leave_after: closes the connection this many seconds after the answer began; None for
                never.
            stream: whether tokens are to come one by one.
            options: further fields of the request.
        """
        body = {"token_ids": list(token_ids), "stream": stream, **options}
        if id is not None:
            body["session_id"] = id
        async with (
            asyncio.timeout(_REQUEST_SECONDS),
            sending(self.url, "POST", "/generate", json.dumps(body).encode()) as recording,
        ):
            if leave_after is not None:
                await recording.heard.wait()
                await asyncio.wait({recording.over}, timeout=leave_after)
            else:
                await recording.over
        return Part.of(recording)

    async def pages(self) -> dict[str, int]:
        """Pages of the pool: `pages_used` and `pages_total`."""
        found: dict[str, int] = await self._json("GET", "/health/ready")
        return found

    async def info(self) -> dict[str, Any]:
        """The model, and the limits of the server."""
        found: dict[str, Any] = await self._json("GET", "/info")
        return found

    async def evictions(self) -> int:
        """How often a session has lost its memory to others since the server started."""
        text = (await self._exchange("GET", "/metrics")).body.decode()
        return int(float(text.split("\ncausalrn_session_evictions_total{")[1].split()[1]))

    async def delete_all(self) -> dict[str, int]:
        """Delete every session. Returns what the server still holds once it had time to let go."""
        for session in await self.list():
            await self.delete(session["id"])
        deadline = asyncio.get_running_loop().time() + _IDLE_SECONDS
        while True:
            ready = await self.pages()
            held = {name: ready[name] for name in ("running", "waiting", "pages_used")}
            held["sessions"] = len(await self.list())
            if not any(held.values()) or asyncio.get_running_loop().time() > deadline:
                return held
            await asyncio.sleep(0.1)

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        return json.loads((await self._exchange(method, path, content)).body)

    async def _exchange(
        self, method: str, path: str, content: bytes = b"", media_type: str = _JSON
    ) -> Reply:
        async with (
            asyncio.timeout(_REQUEST_SECONDS),
            sending(self.url, method, path, content, media_type) as recording,
        ):
            await recording.over
        reply = recording.reply()
        if not reply.is_whole:
            raise ServerGoneError(f"{method} {path}: the answer broke off")
        if reply.status >= 300:
            raise RefusedError(f"{method} {path}", reply)
        return reply


def content_ids(config: ModelConfig) -> list[int]:
    """The ids that texts are made of."""
    specials = {config.bos_id, config.sep_id, config.eos_id}
    return [id for id in range(config.vocab_size) if id not in specials]


def random_ids(rng: Random, content: Sequence[int], n: int) -> list[int]:
    """A text of n ids, drawn from an alphabet of a random size."""
    return rng.choices(rng.sample(content, rng.randint(2, len(content))), k=n)
