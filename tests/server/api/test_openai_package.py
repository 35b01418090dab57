"""The `openai` package against a real server: what it sends, takes, retries and raises."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Completion, CompletionUsage

from model.state import RaggedBatch
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

TEXT = "grüße, 世界 👩‍🚀"


@pytest.fixture
def live(model: FakeModel) -> Iterator[LiveServer]:
    """A server of one's own, for tests that hold it up or break it."""
    with serve(model, make_settings()) as live:
        yield live


def connect(live: LiveServer, **options: Any) -> OpenAI:
    settings = {"max_retries": 0, "timeout": 20.0} | options
    return OpenAI(base_url=f"{live.url}/v1", api_key="none", **settings)


@pytest.fixture
def client(live: LiveServer) -> Iterator[OpenAI]:
    with connect(live) as client:
        yield client


@pytest.fixture(scope="module")
def shared_client(shared: LiveServer) -> Iterator[OpenAI]:
    with connect(shared) as client:
        yield client


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


def test_a_text_comes_back_whole(shared_client: OpenAI) -> None:
    answer = shared_client.completions.create(model="fake-copy", prompt=TEXT)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", "fake-copy")
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, TEXT, "stop")
    assert choice.logprobs is None
    assert answer.usage is not None
    n_ids = len(TEXT.encode())
    assert answer.usage.prompt_tokens == n_ids + 2
    assert answer.usage.completion_tokens == n_ids
    assert answer.usage.total_tokens == 2 * n_ids + 2
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_a_text_streams_back(shared_client: OpenAI) -> None:
    with shared_client.completions.create(model="fake-copy", prompt=TEXT, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert not any("\ufffd" in chunk.choices[0].text for chunk in chunks)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_the_async_client_too(shared: LiveServer) -> None:
    async def main() -> None:
        async with AsyncOpenAI(
            base_url=f"{shared.url}/v1", api_key="none", max_retries=0, timeout=20
        ) as client:

            async def whole(text: str) -> str:
                answer = await client.completions.create(model="fake-copy", prompt=text)
                return answer.choices[0].text

            async def streamed(text: str) -> str:
                stream = await client.completions.create(
                    model="fake-copy", prompt=text, stream=True
                )
                async with stream:
                    return "".join([chunk.choices[0].text async for chunk in stream])

            texts = [f"{TEXT} {i}" for i in range(8)]
            assert await asyncio.gather(*map(whole, texts)) == texts
            assert await asyncio.gather(*map(streamed, texts)) == texts
            assert [one.id async for one in client.models.list()] == ["fake-copy"]

    asyncio.run(main())


@pytest.mark.parametrize("prompts", [["one", "two", "thrée"], [[256, 97, 257], [256, 98, 98, 257]]])
@pytest.mark.parametrize("n", [1, 3])
def test_several_prompts_and_samples(shared_client: OpenAI, prompts: list[Any], n: int) -> None:
    texts = prompts if isinstance(prompts[0], str) else ["a", "bb"]
    answer = answer_to(shared_client, prompt=prompts, n=n)
    assert [choice.index for choice in answer.choices] == list(range(len(texts) * n))
    assert [choice.text for choice in answer.choices] == [text for text in texts for _ in range(n)]
    pieces = [""] * (len(texts) * n)
    for chunk in chunks_of(shared_client, prompt=prompts, n=n):
        (choice,) = chunk.choices
        pieces[choice.index] += choice.text
    assert pieces == [choice.text for choice in answer.choices]
    assert answer.usage is not None
    framing = 2 if isinstance(prompts[0], str) else 0
    n_read = [len(p.encode() if isinstance(p, str) else p) + framing for p in prompts]
    assert answer.usage.prompt_tokens == sum(n_read)
    assert answer.usage.completion_tokens == n * sum(len(text.encode()) for text in texts)


def test_usage_in_streams(shared_client: OpenAI) -> None:
    def usages(**options: bool) -> tuple[list[CompletionUsage | None], list[int]]:
        chunks = chunks_of(shared_client, prompt=["abc", "defg"], n=2, stream_options=options)
        return [chunk.usage for chunk in chunks], [len(chunk.choices) for chunk in chunks]

    found, n_choices = usages(include_usage=True)
    assert found[:-1] == [None] * (len(found) - 1)
    assert n_choices == [1] * (len(found) - 1) + [0]
    last = found[-1]
    assert last is not None
    assert (last.prompt_tokens, last.completion_tokens, last.total_tokens) == (11, 14, 25)
    found, n_choices = usages(include_usage=True, continuous_usage_stats=True)
    made = [usage.completion_tokens for usage in found if usage is not None]
    assert len(made) == len(found)
    assert made == sorted(made)
    assert made[-2:] == [14, 14]
    assert n_choices[-1] == 0
    found, n_choices = usages(continuous_usage_stats=True)
    assert all(usage is not None for usage in found)
    assert 0 not in n_choices


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities(shared_client: OpenAI, stream: bool) -> None:
    ask: dict[str, Any] = {"prompt": "hé", "logprobs": 2}
    chunks = chunks_of(shared_client, **ask) if stream else [answer_to(shared_client, **ask)]
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    assert all(part is not None for part in parts)
    tokens = [token for part in parts if part for token in part.tokens or []]
    values = [value for part in parts if part for value in part.token_logprobs or []]
    tops = [top for part in parts if part for top in part.top_logprobs or []]
    offsets = [offset for part in parts if part for offset in part.text_offset or []]
    assert tokens == ["h", "bytes:\\xc3", "bytes:\\xa9", "<eos>"]
    assert offsets == [0, 1, 1, 2]
    for token, value, top in zip(tokens, values, tops, strict=True):
        assert next(iter(top.items())) == (token, value)
        assert len(top) == 2
        assert -0.2 < value < 0


def test_what_was_sampled_is_among_the_likeliest(shared_client: OpenAI) -> None:
    answer = shared_client.completions.create(
        model="fake-copy", prompt="a", logprobs=1, max_tokens=1, logit_bias={"98": 100}
    )
    (choice,) = answer.choices
    assert choice.text == "b"
    assert choice.logprobs is not None
    (top,) = choice.logprobs.top_logprobs or []
    assert list(top) == ["a", "b"]
    assert choice.logprobs.token_logprobs == [top["b"]]


def test_an_echo_of_ids_has_all_of_them(shared_client: OpenAI) -> None:
    answer = shared_client.completions.create(
        model="fake-copy", prompt=[256, 0xC3, 0xA9, 257], echo=True, logprobs=0, max_tokens=2
    )
    (choice,) = answer.choices
    assert choice.text == "éé"
    logprobs = choice.logprobs
    assert logprobs is not None
    head, tail = ["<bos>", "bytes:\\xc3", "bytes:\\xa9"], ["bytes:\\xc3", "bytes:\\xa9"]
    assert logprobs.tokens == [*head, "<sep>", *tail]
    assert logprobs.text_offset == [0, 0, 0, 1, 1, 1]
    values: list[float | None] = list(logprobs.token_logprobs or [])
    assert values[0] is None
    assert None not in values[1:]
    tops: list[Any] = list(logprobs.top_logprobs or [])
    assert tops[0] is None
    assert [list(top) for top in tops[1:]] == [[token] for token in logprobs.tokens[1:]]


def test_a_prompt_is_scored_without_generating(shared_client: OpenAI) -> None:
    answer = shared_client.completions.create(
        model="fake-copy", prompt=["ab", "cde"], echo=True, logprobs=1, max_tokens=0
    )
    assert [choice.text for choice in answer.choices] == ["ab", "cde"]
    assert [len(choice.logprobs.tokens or []) for choice in answer.choices if choice.logprobs] == [
        2,
        3,
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


def test_models(shared_client: OpenAI, shared: LiveServer) -> None:
    (listed,) = shared_client.models.list()
    assert listed.id == "fake-copy"
    assert listed == shared_client.models.retrieve("fake-copy")
    extra = listed.model_extra or {}
    assert extra["max_model_len"] == shared.model.max_seq_len
    assert extra["fingerprint"] == shared.model.fingerprint
    with pytest.raises(openai.NotFoundError) as refused:
        shared_client.models.retrieve("other")
    assert refused.value.code == "model_not_found"


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


def test_an_address_that_is_not_there_says_what_is(shared_client: OpenAI) -> None:
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
    steps = 0

    def fail_the_third(_: RaggedBatch) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise RuntimeError("injected")

    live.model.decoder.before_extend = fail_the_third
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


def test_a_client_that_loses_patience_frees_everything(live: LiveServer, gate: Gate) -> None:
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
    n_steps = 0

    def hold_the_tenth(batch: RaggedBatch) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps >= 10:  # of 20 or so that the prompts take; the first one has begun to stream
            gate(batch)

    live.model.decoder.before_extend = hold_the_tenth
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


def test_sessions_go_on(live: LiveServer, client: OpenAI) -> None:
    with live.client() as plain:
        session = plain.post("/sessions").json()["id"]
    ask: dict[str, Any] = {"prompt": "a", "extra_body": {"session_id": session}}
    for n_tokens, last in ((5, answer_to(client, **ask)), (10, chunks_of(client, **ask)[-1])):
        extra = last.model_extra or {}
        assert extra["session"] == {"id": session, "n_tokens": n_tokens}
