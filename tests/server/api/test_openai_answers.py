"""What the `openai` package sends to a real server, and what it takes."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import CompletionUsage

from tests.server.api.openai_calls import TEXT, answer_to, chunks_of
from tests.server.live_server import LiveServer


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


def test_the_async_client_reads_whole_and_streamed_answers(shared: LiveServer) -> None:
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


def test_models_are_listed_and_retrieved(shared_client: OpenAI, shared: LiveServer) -> None:
    (listed,) = shared_client.models.list()
    assert listed.id == "fake-copy"
    assert listed == shared_client.models.retrieve("fake-copy")
    extra = listed.model_extra or {}
    assert extra["max_model_len"] == shared.model.max_seq_len
    assert extra["fingerprint"] == shared.model.fingerprint
    with pytest.raises(openai.NotFoundError) as refused:
        shared_client.models.retrieve("other")
    assert refused.value.code == "model_not_found"


def test_requests_may_go_on_in_a_session(live: LiveServer, client: OpenAI) -> None:
    with live.client() as plain:
        session = plain.post("/sessions").json()["id"]
    ask: dict[str, Any] = {"prompt": "a", "extra_body": {"session_id": session}}
    for n_tokens, last in ((5, answer_to(client, **ask)), (10, chunks_of(client, **ask)[-1])):
        extra = last.model_extra or {}
        assert extra["session"] == {"id": session, "n_tokens": n_tokens}
