"""Calls of the `openai` package on a server of the fake model."""

from typing import Any

from openai import OpenAI
from openai.types import Completion

from tests.server.live_server import LiveServer

TEXT = "grüße, 世界 👩‍🚀"


def connect(live: LiveServer, **options: Any) -> OpenAI:
    """A client, which tries nothing again unless the test wants it to."""
    settings = {"max_retries": 0, "timeout": 20.0} | options
    return OpenAI(base_url=f"{live.url}/v1", api_key="none", **settings)


def answer_to(client: OpenAI, **ask: Any) -> Completion:
    """A whole answer."""
    fields: dict[str, Any] = {"model": "fake-copy"} | ask
    answer = client.completions.create(**fields)
    assert isinstance(answer, Completion)
    return answer


def chunks_of(client: OpenAI, **ask: Any) -> list[Completion]:
    """The chunks of a streamed answer."""
    fields: dict[str, Any] = {"model": "fake-copy", "stream": True} | ask
    return list(client.completions.create(**fields))
