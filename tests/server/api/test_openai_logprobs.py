"""Log-probabilities, as the `openai` package reads them."""

from typing import Any

import pytest
from openai import OpenAI

from tests.server.api.openai_calls import answer_to, chunks_of


@pytest.mark.parametrize("stream", [False, True])
def test_each_token_has_its_log_probability_and_the_likeliest(
    shared_client: OpenAI, stream: bool
) -> None:
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


@pytest.mark.parametrize(
    ("ask", "text", "offsets"),
    [
        ({"stop": "céx"}, "abcéd", [0, 1, 2, 3, 3, 4, 5]),  # the last one is EOS
        ({"stop": "céd"}, "ab", [0, 1, 2, 2, 2, 2]),
        ({"stop": "abcéd", "echo": True}, "abcéd", [0, 1, 2, 3, 3, 4, *[5] * 6]),
        ({"max_tokens": 4}, "abc", [0, 1, 2, 3]),
    ],
)
def test_no_token_begins_beyond_the_text(
    shared_client: OpenAI, ask: dict[str, Any], text: str, offsets: list[int]
) -> None:
    fields: dict[str, Any] = {"prompt": "abcéd", "logprobs": 1} | ask
    whole = answer_to(shared_client, **fields).choices[0]
    assert whole.logprobs is not None
    assert (whole.text, whole.logprobs.text_offset) == (text, offsets)
    parts = [chunk.choices[0] for chunk in chunks_of(shared_client, **fields)]
    assert "".join(part.text for part in parts) == text
    streamed = [
        place for part in parts if part.logprobs for place in part.logprobs.text_offset or ()
    ]
    assert streamed == offsets
    for part in parts:
        extra = part.model_extra or {}
        assert part.logprobs is not None
        n_eos = (part.logprobs.tokens or []).count("<eos>")
        assert len(extra["token_ids"]) == len(part.logprobs.tokens or []) - n_eos


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
