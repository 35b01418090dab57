"""What the `openai` package raises and tries again, and what it leaves behind when it gives up."""

import threading
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from causalrn.model.state import RaggedBatch
from tests.server.api.openai_calls import answer_to, connect
from tests.server.conftest import Gate
from tests.server.live_server import LiveServer
from tests.server.steps import AtStep, fail


@pytest.mark.parametrize(
    ("ask", "error", "code", "param"),
    [
        ({"prompt": ""}, openai.BadRequestError, "invalid_request", "prompt"),
        (
            {"prompt": "a", "temperature": 3},
            openai.BadRequestError,
            "invalid_request",
            "temperature",
        ),
        ({"prompt": "a", "suffix": "b"}, openai.BadRequestError, "invalid_request", "suffix"),
        ({"prompt": "a", "model": "b"}, openai.NotFoundError, "model_not_found", "model"),
        ({"prompt": "x" * 2000}, openai.APIStatusError, "request_too_large", "prompt"),
        (
            {"prompt": "a", "extra_body": {"session_id": f"ses-{'0' * 32}"}},
            openai.NotFoundError,
            "session_not_found",
            None,
        ),
    ],
)
def test_refusals_have_the_classes_of_the_package(
    shared_client: OpenAI,
    ask: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str | None,
) -> None:
    with pytest.raises(error) as refused:
        answer_to(shared_client, **ask)
    assert type(refused.value) is error
    assert (refused.value.code, refused.value.param) == (code, param)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id


def test_an_unknown_address_names_those_that_exist(shared_client: OpenAI) -> None:
    with pytest.raises(
        openai.NotFoundError, match="POST /v1/completions, GET /v1/models"
    ) as refused:
        shared_client.chat.completions.create(
            model="fake-copy", messages=[{"role": "user", "content": "hello"}]
        )
    assert (refused.value.code, refused.value.type) == ("not_found", "invalid_request_error")


def test_a_failed_step_is_not_sent_again(live: LiveServer) -> None:
    steps = 0

    def fail(_: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        raise RuntimeError("injected")

    live.model.decoder.before_extend = fail
    with (
        connect(live, max_retries=5) as client,
        pytest.raises(openai.InternalServerError) as failed,
    ):
        client.completions.create(model="fake-copy", prompt="hello")
    assert (failed.value.code, failed.value.type) == ("engine_error", "server_error")
    assert steps == 1
    live.model.decoder.before_extend = lambda _: None


@pytest.mark.parametrize("prompt", ["hello", ["hello", "there"]])
def test_a_failure_in_mid_stream_is_raised(
    live: LiveServer, client: OpenAI, prompt: str | list[str]
) -> None:
    live.model.decoder.before_extend = AtStep(3, fail)
    stream = client.completions.create(model="fake-copy", prompt=prompt, stream=True)
    texts = ["", ""]

    def read() -> None:
        for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].text

    with pytest.raises(openai.APIError, match="the engine failed") as failed:
        read()
    assert (failed.value.code, failed.value.type) == ("engine_error", "server_error")
    assert "hello".startswith(texts[0])
    assert "there".startswith(texts[1])
    assert any(texts)  # what two steps had made came before it
    live.wait_until_idle()


def test_a_full_queue_is_tried_again(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = gate
    connections = [live.connect() for _ in range(24)]
    for connection in connections:
        live.send_generate(connection, {"prompt": "hello"})
    live.wait_until(lambda: live.engine.n_streams == 24)
    with connect(live) as client, pytest.raises(openai.InternalServerError) as refused:
        client.completions.create(model="fake-copy", prompt="hello")
    assert refused.value.status_code == 503
    assert (refused.value.code, refused.value.type) == ("overloaded", "overloaded")
    assert refused.value.response.headers["retry-after"] == "1"

    refusals = threading.Event()

    def note(response: Any) -> None:
        if response.status_code == 503:
            refusals.set()

    answers: list[str] = []

    def ask() -> None:
        http = openai.DefaultHttpxClient(event_hooks={"response": [note]})
        with connect(live, max_retries=5, http_client=http) as client:
            answer = client.completions.create(model="fake-copy", prompt="hello")
            answers.append(answer.choices[0].text)

    asking = threading.Thread(target=ask)
    asking.start()
    assert refusals.wait(20)
    gate.open()
    asking.join(20)
    assert answers == ["hello"]
    for connection in connections:
        connection.close()


def test_a_client_that_times_out_frees_everything(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = gate
    timeout = httpx.Timeout(20, read=0.3)  # once the request is sent, however long that takes
    prompts = ["x" * 100, "y" * 100]
    with connect(live, timeout=timeout) as client:
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(model="fake-copy", prompt=prompts, n=2)
        live.wait_until(lambda: live.engine.metrics.finished["abort"] == 2)
    assert_nothing_goes_on(live, gate)


def test_a_reader_that_leaves_ends_all_prompts(
    live: LiveServer, client: OpenAI, gate: Gate
) -> None:
    # Of 20 or so that the prompts take; the first one has begun to stream.
    live.model.decoder.before_extend = AtStep(10, gate)
    prompts = ["x" * 100, "y" * 100, "z" * 100]
    with client.completions.create(model="fake-copy", prompt=prompts, n=2, stream=True) as stream:
        next(iter(stream))
    live.wait_until(lambda: live.engine.metrics.finished["abort"] == 3)
    assert_nothing_goes_on(live, gate)


def assert_nothing_goes_on(live: LiveServer, gate: Gate) -> None:
    """What is not wanted any more makes no steps, but for one that is under way."""
    assert live.engine.n_streams == 0
    n_steps = len(live.model.decoder.batches)
    gate.open()
    live.wait_until_idle()
    assert len(live.model.decoder.batches) <= n_steps + 2


def test_a_deadline_is_not_sent_again(live: LiveServer, gate: Gate) -> None:
    live.model.decoder.before_extend = gate
    with connect(live, max_retries=5) as client, pytest.raises(openai.InternalServerError) as late:
        client.completions.create(model="fake-copy", prompt="hello", extra_body={"timeout": 0.1})
    assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
    assert live.engine.metrics.finished["error"] == 1
    gate.open()
