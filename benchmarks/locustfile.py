"""Users who stream copies, for Locust.

    locust -f benchmarks/locustfile.py --headless --users 16 --run-time 60s

Every answer must be an exact copy of its prompt. Locust's own times of requests end with the
headers of a stream, so there are three more for each path: the time to the first token (TTFT), the
times between later events (ITL), and the time to the end (E2E).

Some users leave in mid-stream. `--host` says where the server is; without it, the server's default
address is used. An API key is taken from `CAUSALRN_API_KEY`.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from locust import HttpUser, task
from locust.clients import ResponseContextManager

_LETTERS = "abcdefghijklmnopqrstuvwxyz    ,.:;-äöüéß0123456789"
_RANDOM = random.Random(0)
PROMPTS = ["".join(_RANDOM.choices(_LETTERS, k=n)) for n in range(16, 208, 3)]
_EVENTS_READ = 2  # by those who leave early


class _Streaming(HttpUser):
    """A user who reads one stream after the other, as fast as they come."""

    abstract = True
    host = "http://127.0.0.1:8000"
    path: str

    def on_start(self) -> None:
        """Send the key, if there is one."""
        if key := os.environ.get("CAUSALRN_API_KEY"):
            self.client.headers["authorization"] = f"Bearer {key}"

    def read(self, prompt: str, *, leave: bool = False) -> None:
        """Ask for a copy and read it, or some of it.

        Args:
            prompt: what to copy.
            leave: whether to close the connection after some events.
        """
        body = {"prompt": prompt, "stream": True, "temperature": 0}
        begin = time.perf_counter()
        with self.client.post(
            self.path, json=body, stream=True, catch_response=True, name=self.path
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text}")
                return
            text, previous = "", None
            for n_events, event in enumerate(_events(response)):
                now = time.perf_counter()
                if previous is None:
                    self._measured("TTFT", now - begin)
                else:
                    self._measured("ITL", now - previous)
                previous = now
                text += self.text_of(event)
                if leave and n_events + 1 == _EVENTS_READ:
                    response.close()
                    return
            self._measured("E2E", time.perf_counter() - begin)
            if text != prompt:
                response.failure(f"{prompt!r} became {text!r}")

    def text_of(self, event: Any) -> str:
        """The new text of an event, or the error that it tells of."""
        raise NotImplementedError

    def _measured(self, what: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type=what,
            name=self.path,
            response_time=1000 * seconds,
            response_length=0,
            exception=None,
            context={},
        )


class GenerateUser(_Streaming):
    """A user who streams `POST /generate`."""

    path = "/generate"

    def text_of(self, event: Any) -> str:
        """See `_Streaming.text_of`."""
        return str(event.get("text", event))

    @task(4)
    def copy(self) -> None:
        """Read all of a copy."""
        self.read(random.choice(PROMPTS))

    @task(1)
    def leave(self) -> None:
        """Read the beginning of a copy."""
        self.read(PROMPTS[-1], leave=True)


class CompletionsUser(GenerateUser):
    """A user who streams `POST /v1/completions`."""

    path = "/v1/completions"

    def text_of(self, event: Any) -> str:
        """See `_Streaming.text_of`."""
        return str(event["choices"][0]["text"] if "choices" in event else event)


def _events(response: ResponseContextManager) -> Iterator[Any]:
    """The events of a stream as they come, up to `[DONE]`.

    Raises:
        ValueError: the stream ends without it.
    """
    # None means as they come, which the library's annotations do not know.
    for line in response.iter_lines(chunk_size=None):  # type: ignore[call-overload]
        if line == b"data: [DONE]":
            return
        if line:
            yield json.loads(line.removeprefix(b"data: "))
    raise ValueError("the stream ended before [DONE]")
