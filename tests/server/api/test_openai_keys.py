"""The openai package against a server with keys."""

import hashlib
import json
from collections.abc import Iterator

import openai
import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve


@pytest.fixture
def live() -> Iterator[LiveServer]:
    digest = hashlib.sha256(b"known").hexdigest()
    key = {"name": "hurried", "hash": f"sha256:{digest}", "requests_per_minute": 1}
    with serve(FakeModel(), make_settings(api_keys=json.dumps([key]))) as live:
        yield live


def complete(live: LiveServer, key: str) -> str:
    url = f"{live.url}/v1"
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        return client.completions.create(model="fake-copy", prompt="hi").choices[0].text


def test_refusals_of_keys_are_its_own_errors(live: LiveServer) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        complete(live, "guessed")
    assert (unknown.value.code, unknown.value.type) == ("unauthorized", "authentication_error")
    assert complete(live, "known") == "hi"
    with pytest.raises(openai.RateLimitError) as limited:
        complete(live, "known")
    assert (limited.value.code, limited.value.type) == ("rate_limited", "rate_limit_error")
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
