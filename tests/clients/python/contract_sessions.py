"""Sessions as the contract has them, kept in a dictionary: passages are read, copied, recalled."""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response, StreamingResponse

if TYPE_CHECKING:
    from tests.clients.python.contract_server import Received

FINGERPRINT = "00ff"
NOW = 1_763_785_400.0
DEFAULT_TTL = 604_800.0
UNKNOWN = "ses-" + "f" * 32  # the id of no session
MAGIC = b"a snapshot: "
BOS, SEP = 256, 257


@dataclass
class Log:
    """A session; `passages` are what it has read, `token_ids` all that it holds."""

    id: str
    ttl: float = DEFAULT_TTL
    busy: bool = False
    passages: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    def describe(self, *, with_ids: bool = False) -> dict[str, Any]:
        return {
            "id": self.id,
            "model": "copy-bytes",
            "fingerprint": FINGERPRINT,
            "n_tokens": len(self.token_ids),
            "state": "warm" if self.token_ids else "cold",
            "busy": self.busy,
            "pool_tokens": max(0, len(self.token_ids) - 1),
            "pool_bytes": 65_536,
            "pages_own": 1,
            "pages_shared": 0,
            "created_at": NOW - 12.5,
            "used_at": NOW,
            "expires_at": NOW + self.ttl,
            "age_seconds": 12.5,
            "ttl_seconds": self.ttl,
            "token_ids": self.token_ids if with_ids else None,
            "field_of_a_later_version": True,
        }


@dataclass(frozen=True)
class Turn:
    """What a turn wrote, and what it left in its session."""

    ids: list[int]
    usage: dict[str, Any]


class ContractSessions:
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self.limit = 1000
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        self.logs.clear()
        self.limit = 1000

    def add(self, **fields: Any) -> Log:
        log = Log(f"ses-{next(self._numbers):032x}", **fields)
        self.logs[log.id] = log
        return log

    def answer(self, received: "Received") -> Response:
        """Answers whatever is not `POST /generate`."""
        _, _, id, *rest = [*received.path.split("/"), ""]
        query = {name: values[0] for name, values in parse_qs(received.query).items()}
        match received.method, id, rest[0] if rest else "":
            case "POST", "", _:
                return self._created(received.body or {}, [], [])
            case "GET", "", _:
                return self._list(query.get("after", ""), int(query.get("limit", 100)))
            case "PUT", _, "snapshot":
                return self._restore(id, received.body or b"")
        log = self.logs.get(id)
        if log is None:
            return _error(404, "session_not_found", f"there is no session {id!r}")
        match received.method, rest[0] if rest else "":
            case "GET", "":
                return JSONResponse(log.describe(with_ids=query.get("include") == "token_ids"))
            case "DELETE", "":
                del self.logs[id]
                return Response(status_code=204)
            case "POST", "fork":
                if log.busy:
                    return _busy(log)
                return self._created(received.body or {}, log.passages, log.token_ids)
            case "GET", "snapshot":
                return _busy(log) if log.busy else _snapshot(log)
        return _error(404, "not_found", "there is nothing here")

    def turn(self, body: Mapping[str, Any]) -> Turn | Response:
        """Does what `POST /generate` does in a session."""
        log = self.logs.get(body["session_id"])
        if log is None:
            return _error(404, "session_not_found", f"there is no session {body['session_id']!r}")
        if log.busy and not body.get("wait_for_session"):
            return _busy(log)
        prompt = body.get("prompt")
        ids = body["token_ids"] if prompt is None else list(prompt.encode())
        text = bytes(i for i in ids if i < BOS).decode(errors="replace")
        match body.get("mode", "copy"):
            case "recall":
                passage = next((p for p in log.passages if p.startswith(text)), None)
                written = list((passage or text)[len(text) :].encode())
            case "raw":
                written = list(b"...")
            case _:
                log.passages.append(text)
                ids = [BOS, *ids, SEP]
                written = [] if body.get("max_tokens") == 0 else list(text.encode())
        log.token_ids += ids + written
        return Turn(written, {"id": log.id, "n_tokens": len(log.token_ids)})

    def _created(
        self, body: Mapping[str, Any], passages: list[str], token_ids: list[int]
    ) -> Response:
        if len(self.logs) >= self.limit:
            return _error(
                429, "too_many_sessions", "there are too many", {"x-should-retry": "false"}
            )
        ttl = body.get("ttl_seconds", DEFAULT_TTL)
        log = self.add(ttl=ttl, passages=list(passages), token_ids=list(token_ids))
        headers = {"location": f"/sessions/{log.id}"}
        return JSONResponse(log.describe(), 201, headers)

    def _list(self, after: str, limit: int) -> Response:
        ids = sorted(id for id in self.logs if id > after)
        page = [self.logs[id].describe() for id in ids[:limit]]
        following = ids[limit - 1] if len(ids) > limit else None
        return JSONResponse({"sessions": page, "next": following})

    def _restore(self, id: str, content: bytes) -> Response:
        if not re.fullmatch("ses-[0-9a-f]{32}", id):
            return _error(422, "invalid_request", f"not the id of a session: {id!r}", param="id")
        if not content.startswith(MAGIC):
            return _error(422, "invalid_snapshot", "this is no snapshot")
        status = 200 if id in self.logs else 201
        self.logs[id] = Log(id, **json.loads(content.removeprefix(MAGIC)))
        return JSONResponse(self.logs[id].describe(), status)


def _snapshot(log: Log) -> Response:
    content = MAGIC + json.dumps({"passages": log.passages, "token_ids": log.token_ids}).encode()
    pieces = (content[start : start + 10] for start in range(0, len(content), 10))
    headers = {"content-length": str(len(content))}
    return StreamingResponse(pieces, headers=headers, media_type="application/octet-stream")


def _busy(log: Log) -> Response:
    message = f"the session {log.id} is busy"
    return _error(409, "session_busy", message, {"retry-after": "1"})


def _error(
    status: int,
    kind: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    param: str | None = None,
) -> Response:
    error = {"type": kind, "message": message, "param": param}
    return JSONResponse({"error": error}, status, dict(headers or {}))
