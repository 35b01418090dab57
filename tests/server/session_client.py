"""What tests do with sessions over HTTP."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.server.live_server import events

EOS = 258
NOBODY = "ses-" + "0" * 32
"""An id that no session has."""


def copied(text: str) -> list[int]:
    """The log of a turn that copies a text."""
    return [256, *text.encode(), 257, *text.encode(), EOS]


class SessionClient:
    """Calls on one server, each answer as its JSON; by default one that succeeded."""

    def __init__(self, client: httpx.Client) -> None:
        self.http = client

    def create(self, **body: Any) -> str:
        response = self.http.post("/sessions", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def get(self, id: str) -> Any:
        response = self.http.get(f"/sessions/{id}")
        assert response.status_code == 200, response.text
        return response.json()

    def log(self, id: str) -> list[int]:
        response = self.http.get(f"/sessions/{id}?include=token_ids")
        assert response.status_code == 200, response.text
        session = response.json()
        assert session["n_tokens"] == len(session["token_ids"])
        return list(session["token_ids"])

    def fork(self, id: str, **body: Any) -> str:
        response = self.http.post(f"/sessions/{id}/fork", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def delete(self, id: str) -> None:
        response = self.http.delete(f"/sessions/{id}")
        assert (response.status_code, response.content) == (204, b"")

    def save(self, id: str) -> bytes:
        response = self.http.get(f"/sessions/{id}/snapshot")
        assert response.status_code == 200, response.text
        return response.content

    def restore(self, id: str, data: bytes) -> httpx.Response:
        headers = {"content-type": "application/octet-stream"}
        return self.http.put(f"/sessions/{id}/snapshot", content=data, headers=headers)

    def post(self, id: str | None, prompt: str | list[int], **options: Any) -> httpx.Response:
        name = "prompt" if isinstance(prompt, str) else "token_ids"
        return self.http.post("/generate", json={"session_id": id, name: prompt} | options)

    def turn(self, id: str, prompt: str | list[int], **options: Any) -> Any:
        response = self.post(id, prompt, **options)
        assert response.status_code == 200, response.text
        if not options.get("stream"):
            return response.json()
        *chunks, done = events(response)
        assert done == "[DONE]"
        joined = dict(chunks[-1])
        joined["text"] = "".join(chunk["text"] for chunk in chunks)
        joined["token_ids"] = [id for chunk in chunks for id in chunk["token_ids"]]
        return joined

    @contextmanager
    def stream(self, id: str, prompt: str, **options: Any) -> Iterator[Iterator[Any]]:
        """The events of a turn as they come."""
        body = {"session_id": id, "prompt": prompt, "stream": True} | options
        with self.http.stream("POST", "/generate", json=body) as response:
            assert response.status_code == 200, response.read()
            yield _events(response.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line:
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def assert_error(answer: Any, param: str | None, message: str) -> None:
    """The one shape of an error, with this parameter, and a message that has this part."""
    assert list(answer) == ["error"]
    assert list(answer["error"]) == ["type", "message", "param"]
    assert re.fullmatch("[a-z_]+", answer["error"]["type"])
    assert message in answer["error"]["message"]
    assert answer["error"]["param"] == param


def error_type(response: httpx.Response, status: int) -> str:
    """The type of an error, which has the one shape."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert list(response.json()["error"]) == ["type", "message", "param"]
    return str(response.json()["error"]["type"])
