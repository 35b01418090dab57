import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import httpx
import pytest

from causalrn.model.state import RaggedBatch
from causalrn.server.api.schemas.completions import Completion
from causalrn.server.api.schemas.errors import OpenAIErrorResponse
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel, letters
from tests.server.live_server import LiveServer, events, serve


def post(live: LiveServer, body: Any) -> httpx.Response:
    headers = {"content-type": "application/json"}
    with live.client() as client:
        if isinstance(body, bytes):
            return client.post("/v1/completions", content=body, headers=headers)
        return client.post("/v1/completions", json=body)


def test_an_answer_has_the_shape_of_openai(shared: LiveServer) -> None:
    response = post(shared, {"prompt": "hé"})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert answer["choices"] == [
        {
            "index": 0,
            "text": "hé",
            "token_ids": list("hé".encode()),
            "logprobs": None,
            "finish_reason": "stop",
            "match": None,
            "verified": True,
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    Completion.model_validate(answer)


def test_chunks_have_the_shape_of_openai(shared: LiveServer) -> None:
    ask = {"prompt": ["hé", "x"], "stream": True, "logprobs": 1, "echo": True}
    response = post(shared, ask | {"stream_options": {"include_usage": True}})
    assert response.headers["x-accel-buffering"] == "no"
    *chunks, last, done = events(response)
    assert done == "[DONE]"
    for chunk in chunks:
        assert list(chunk) == ["id", "object", "created", "model", "choices", "usage"]
        assert chunk["usage"] is None
        Completion.model_validate(chunk)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    Completion.model_validate(last)


@pytest.mark.parametrize("stream", [False, True])
def test_chunks_and_the_whole_say_the_same(shared: LiveServer, stream: bool) -> None:
    ask = {"prompt": ["äöü", "x", "yy"], "n": 2, "logprobs": 2, "echo": stream, "mode": "copy"}
    choices = post(shared, ask).json()["choices"]
    *chunks, _ = events(post(shared, ask | {"stream": True}))
    for index, choice in enumerate(choices):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert choice["index"] == index
        assert "".join(part["text"] for part in own) == choice["text"]
        assert list(chain(*(part["token_ids"] for part in own))) == choice["token_ids"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            assert list(chain(*(part["logprobs"][name] for part in own))) == values


def test_text_is_copied_and_ids_are_read_as_they_are(shared: LiveServer) -> None:
    def text(**ask: Any) -> str:
        return str(post(shared, ask | {"max_tokens": 3}).json()["choices"][0]["text"])

    assert text(prompt="abc") == "abc"
    assert text(prompt=[256, 97, 98, 99, 257]) == "abc"
    assert text(prompt=[97, 98, 99], mode="copy") == "abc"
    assert text(prompt="abc", mode="raw") == ""  # the fake wants BOS after all but a copy


def test_ids_get_as_many_tokens_as_openai_gives(shared: LiveServer) -> None:
    (choice,) = post(shared, {"prompt": [97, 98]}).json()["choices"]
    assert len(choice["token_ids"]) == 16
    assert choice["finish_reason"] == "length"


def test_a_field_that_is_null_has_its_default(shared: LiveServer) -> None:
    nulls = dict.fromkeys(
        ["model", "max_tokens", "n", "temperature", "stop", "suffix", "best_of", "user", "extra"]
    )
    response = post(shared, {"prompt": "abc"} | nulls)
    assert response.json()["choices"][0]["text"] == "abc"


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        ({"stop": "ll"}, "he"),
        ({"stop": ["o", "l"]}, "he"),
        ({"max_tokens": 4}, "hell"),
        ({"logit_bias": {"120": 100}, "max_tokens": 2}, "xx"),
        ({"presence_penalty": 2, "frequency_penalty": 2, "logit_bias": {"108": -5}}, "hel\0o"),
        ({"repetition_penalty": 10, "logit_bias": {"104": 1}}, "hhhhh"),
        ({"min_tokens": 6, "max_tokens": 6, "stop": "l"}, "hello\0"),
        ({"ignore_eos": True, "max_tokens": 7}, "hello"),
        ({"best_of": 1, "n": 1}, "hello"),
        # At this temperature the likeliest token has a sixth of the probability.
        ({"temperature": 2, "seed": 1, "top_k": 1}, "hello"),
        ({"temperature": 2, "seed": 1, "top_p": 0.1}, "hello"),
        ({"temperature": 2, "seed": 1, "min_p": 0.5}, "hello"),
        ({"timeout": 10, "user": "somebody"}, "hello"),
    ],
)
def test_every_field_has_its_effect_on_both_routes(
    shared: LiveServer, ask: dict[str, Any], text: str
) -> None:
    response = post(shared, {"prompt": "hello"} | ask)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["text"] == text
    ours = {name: value for name, value in ask.items() if name not in ("best_of", "user")}
    assert shared.post({"prompt": "hello"} | ours).json()["text"] == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", -1),
        ("seed", -1),
        ("stop", ""),
        ("stop", []),
        ("stop", [""]),
        ("logit_bias", {}),
        ("suffix", ""),
        ("store", False),
        ("metadata", {}),
        ("skip_special_tokens", True),
        ("spaces_between_special_tokens", True),
        ("include_stop_str_in_output", False),
        ("stop_token_ids", []),
        ("use_beam_search", False),
        ("add_special_tokens", True),
        ("stream_options", {}),
        ("stream_options", {"include_usage": True, "include_obfuscation": False}),
        ("max_completion_tokens", 6),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_value_that_asks_for_nothing_changes_nothing(
    shared: LiveServer, name: str, value: Any, stream: bool
) -> None:
    response = post(shared, {"prompt": "hello", name: value, "stream": stream})
    assert response.status_code == 200, response.text
    chunks = events(response)[:-1] if stream else [response.json()]
    parts = [part for chunk in chunks for part in chunk["choices"]]
    assert "".join(part["text"] for part in parts) == "hello"
    assert parts[-1]["finish_reason"] == "stop"


def test_max_completion_tokens_is_another_name_of_max_tokens(shared: LiveServer) -> None:
    for names in (("max_completion_tokens",), ("max_completion_tokens", "max_tokens")):
        (choice,) = post(shared, {"prompt": "hello"} | dict.fromkeys(names, 2)).json()["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("he", "length")
    ask: dict[str, Any] = {"prompt": "hi", "max_completion_tokens": 0, "echo": True}
    assert post(shared, ask).json()["choices"][0]["text"] == "hi"


def test_raw_prompts_have_no_special_ids_to_leave_out(shared: LiveServer) -> None:
    for prompt in ([256, 97, 257], "a"):
        ask = {"prompt": prompt, "mode": "raw", "add_special_tokens": False}
        assert post(shared, ask).status_code == 200


# What clients send besides the prompt, by the sources of the versions that are named. Limits that
# they take from elsewhere are small here.
CLIENTS: dict[str, dict[str, Any]] = {
    # langchain-openai 1.7: OpenAI(), with its default of 256 tokens
    "LangChain": {
        "temperature": 0.7, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "n": 1,
        "seed": None, "logprobs": None, "max_tokens": 256,
    },
    # langchain-community 0.4: VLLMOpenAI()
    "LangChain for vLLM": {
        "n": 1, "best_of": None, "max_tokens": 512, "top_k": -1, "top_p": 1.0, "temperature": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": None, "ignore_eos": False,
        "use_beam_search": False, "logprobs": None, "logit_bias": None,
    },
    # litellm 1.110: text_completion(), with the defaults that it documents written out
    "LiteLLM": {
        "max_tokens": 16, "temperature": 1, "top_p": 1, "n": 1, "best_of": 1, "echo": False,
        "stop": "", "suffix": "", "user": "", "logit_bias": {},
    },
    # llama-index-llms-openai 0.8: OpenAILike(is_chat_model=False)
    "LlamaIndex": {"temperature": 0.1, "max_tokens": 64, "stream": False},
    "LlamaIndex, streamed": {"temperature": 0.1, "max_tokens": 64, "stream": True},
    # guidellm 0.8: its request handler for /v1/completions
    "guidellm": {
        "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 5, "stop": None, "ignore_eos": True,
    },
    # aiperf 0.13: its endpoint `completions`, and its probe
    "aiperf": {"stream": True, "max_tokens": 8, "stream_options": {"include_usage": True}},
    "aiperf, ready?": {"max_tokens": 5},
    # evalscope 1.14: `evalscope perf --url …/v1/completions`
    "evalscope": {
        "max_tokens": 64, "min_tokens": 1, "n": 1, "seed": 0, "temperature": 0.0, "top_p": 1.0,
        "top_k": 50, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "stream": True,
        "stream_options": {"include_usage": True},
    },
    # vllm 0.33: `vllm bench serve --backend openai`
    "vLLM's benchmark": {
        "repetition_penalty": 1.0, "max_tokens": 16, "logprobs": None, "stream": True,
        "stream_options": {"include_usage": True},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CLIENTS)
def test_what_clients_send_is_taken(shared: LiveServer, name: str) -> None:
    ask = CLIENTS[name]
    response = post(shared, {"model": "fake-copy", "prompt": "hello"} | ask | {"temperature": 0})
    assert response.status_code == 200, response.text
    chunks = events(response)[:-1] if ask.get("stream") else [response.json()]
    parts = [part for chunk in chunks for part in chunk["choices"]]
    assert "".join(part["text"] for part in parts) == "hello"
    n_usages = sum(chunk.get("usage") is not None for chunk in chunks)
    assert n_usages >= (1 if ask.get("stream_options") or not ask.get("stream") else 0)


def test_a_request_can_go_on_after_eos(shared: LiveServer) -> None:
    ask = {"prompt": "hello", "ignore_eos": True, "max_tokens": 7}
    (choice,) = post(shared, ask).json()["choices"]
    assert choice["token_ids"] == [*b"hello", 258, 258]
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("path", ["/v1/completions", "/generate"])
def test_priority_decides_who_waits(model: FakeModel, gate: Gate, path: str) -> None:
    with (
        serve(model, make_settings(max_running=1)) as live,
        live.client() as client,
        ThreadPoolExecutor(4) as pool,
    ):

        def ask(prompt: str, priority: int) -> None:
            body = {"prompt": prompt, "priority": priority}
            assert client.post(path, json=body).status_code == 200

        order: list[int] = []

        def note(batch: RaggedBatch) -> None:
            gate(batch)
            order.extend(id for id in batch.token_ids.tolist() if id in set(b"abc"))

        model.decoder.before_extend = note
        first = pool.submit(ask, "x", 0)
        assert gate.reached.wait(10)
        rest = []
        for number, (prompt, priority) in enumerate((("a", 2), ("b", 0), ("c", -2)), 1):
            rest.append(pool.submit(ask, prompt, priority))
            live.wait_until(lambda: live.engine.usage.waiting == number)  # noqa: B023
        gate.open()
        for future in (first, *rest):
            future.result(20)
        assert bytes(dict.fromkeys(order)) == b"cba"


def test_the_log_says_who_asked(shared: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "causalrn.server.engine.readers"):
        post(shared, {"prompt": "a", "user": "some\nbody"})
    (line,) = [
        one.getMessage() for one in caplog.records if one.name == "causalrn.server.engine.readers"
    ]
    assert line.endswith(r", user 'some\nbody'")


def test_a_letter_model_names_its_tokens() -> None:
    with serve(letters(), make_settings()) as live:
        ask = {"prompt": "abc", "echo": True, "logprobs": 0}
        (choice,) = post(live, ask).json()["choices"]
        assert choice["text"] == "abcabc"
        assert choice["logprobs"]["tokens"] == [*"abcabc", "<eos>"]
        assert choice["logprobs"]["text_offset"] == list(range(7))
        response = post(live, {"prompt": ["abc", "é"]})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt[1]"


BAD: list[tuple[bytes, int, str | None, str]] = [
    (b"", 400, None, "empty"),
    (b"{", 400, None, "not JSON"),
    (b"[]", 400, None, "must be a JSON object"),
    (b"null", 400, None, "must be a JSON object"),
    (b"{}", 400, "prompt", "required"),
    (b'{"prompt": null}', 400, "prompt", "required"),
    (b'{"prompt": ""}', 400, "prompt", "must not be empty"),
    (b'{"prompt": []}', 400, "prompt", "must not be empty"),
    (b'{"prompt": [[]]}', 400, "prompt[0]", "must not be empty"),
    (b'{"prompt": ["a", ""]}', 400, "prompt[1]", "must not be empty"),
    (b'{"prompt": 5}', 400, "prompt", "a string, a list of strings"),
    (b'{"prompt": true}', 400, "prompt", "a string, a list of strings"),
    (b'{"prompt": {"a": 1}}', 400, "prompt", "a string, a list of strings"),
    (b'{"prompt": [true]}', 400, "prompt[0]", "must be a string"),
    (b'{"prompt": [null]}', 400, "prompt[0]", "must be a string"),
    (b'{"prompt": [NaN]}', 400, "prompt[0]", "must be a string"),
    (b'{"prompt": [1.5]}', 400, "prompt[0]", "must be a string"),
    (b'{"prompt": [1, "a"]}', 400, "prompt[1]", "whole number"),
    (b'{"prompt": [1, true]}', 400, "prompt[1]", "whole number"),
    (b'{"prompt": ["a", 1]}', 400, "prompt[1]", "must be a string"),
    (b'{"prompt": ["a", [1]]}', 400, "prompt[1]", "must be a string"),
    (b'{"prompt": [[1], "a"]}', 400, "prompt[1]", "must be a list of token ids"),
    (b'{"prompt": [[1], [2, 1.5]]}', 400, "prompt[1][1]", "whole number"),
    (b'{"prompt": [[[1]]]}', 400, "prompt[0][0]", "whole number"),
    (b'{"prompt": [1, 259]}', 400, "prompt[1]", "between 0 and 258"),
    (b'{"prompt": [-1]}', 400, "prompt[0]", "between 0 and 258"),
    (b'{"prompt": [[1], [257], [1, 300]]}', 400, "prompt[2][1]", "between 0 and 258"),
    (b'{"prompt": [257], "mode": "copy"}', 400, "prompt[0]", "special id"),
    (b'{"prompt": ["a", "b\\ud800"]}', 400, "prompt[1]", "surrogate"),
    (b'{"prompt": ["a", "%s"]}' % (b"x" * 5000), 400, "prompt[1]", "at most 2046"),
    (b'{"prompt": ["a", "%s"]}' % (b"x" * 2000), 413, "prompt[1]", "memory pool holds 1024"),
    (b'{"prompt": [%s]}' % b",".join([b'"a"'] * 129), 400, "prompt", "at most 128"),
    (b'{"prompt": ["a", "b", "c", "d", "e"], "n": 26}', 400, "n", "more than 128"),
    (b'{"prompt": [%s]}' % b",".join([b'"a"'] * 25), 413, "prompt", "24 samples at once"),
    (b'{"prompt": "a", "suffix": "b"}', 400, "suffix", "not supported"),
    (b'{"prompt": "a", "store": true}', 400, "store", "not supported"),
    (b'{"prompt": "a", "metadata": {"a": "b"}}', 400, "metadata", "not supported"),
    (b'{"prompt": "a", "metadata": ""}', 400, "metadata", "dictionary"),
    (b'{"prompt": "a", "skip_special_tokens": false}', 400, "skip_special_tokens", "supported"),
    (b'{"prompt": "a", "add_special_tokens": false}', 400, "add_special_tokens", "'raw'"),
    (b'{"prompt": "a", "use_beam_search": true}', 400, "use_beam_search", "not supported"),
    (b'{"prompt": "a", "stop_token_ids": [1]}', 400, "stop_token_ids", "not supported"),
    (b'{"prompt": "a", "top_k": -2}', 400, "top_k", "-1"),
    (b'{"prompt": "a", "seed": -2}', 400, "seed", "-1"),
    (b'{"prompt": "a", "max_completion_tokens": -1}', 400, "max_completion_tokens", "0"),
    (b'{"prompt": "a", "max_completion_tokens": "1"}', 400, "max_completion_tokens", "integer"),
    (
        b'{"prompt": "a", "max_completion_tokens": 1, "max_tokens": 2}',
        400,
        "max_completion_tokens",
        "must be what 'max_tokens' is",
    ),
    (
        b'{"prompt": "a", "stream_options": {"include_obfuscation": true}}',
        400,
        "stream_options.include_obfuscation",
        "not supported",
    ),
    (b'{"prompt": "a", "[key]": 1}', 400, "[key]", "unknown field '[key]'"),
    (b'{"prompt": "a", "messages": []}', 400, "messages", "unknown field 'messages'"),
    (b'{"prompt": "a", "best_of": 2}', 400, "best_of", "not supported"),
    (b'{"prompt": "a", "n": 33}', 400, "n", "32"),
    (b'{"prompt": "a", "n": 1.5}', 400, "n", "integer"),
    (b'{"prompt": "a", "logprobs": 21}', 400, "logprobs", "20"),
    (b'{"prompt": "a", "logprobs": true}', 400, "logprobs", "integer"),
    (b'{"prompt": "a", "temperature": NaN}', 400, "temperature", "finite"),
    (b'{"prompt": "a", "presence_penalty": 2.1}', 400, "presence_penalty", "2"),
    (b'{"prompt": "a", "frequency_penalty": -2.1}', 400, "frequency_penalty", "2"),
    (b'{"prompt": "a", "repetition_penalty": 0}', 400, "repetition_penalty", "0"),
    (b'{"prompt": "a", "repetition_penalty": 10.1}', 400, "repetition_penalty", "10"),
    (b'{"prompt": "a", "logit_bias": [1]}', 400, "logit_bias", "dictionary"),
    (b'{"prompt": "a", "logit_bias": {"a": 1}}', 400, "logit_bias.a", "a token id"),
    (b'{"prompt": "a", "logit_bias": {"01": 1}}', 400, "logit_bias.01", "a token id"),
    (b'{"prompt": "a", "logit_bias": {"-1": 1}}', 400, "logit_bias.-1", "a token id"),
    (b'{"prompt": "a", "logit_bias": {"1": 101}}', 400, "logit_bias.1", "100"),
    (b'{"prompt": "a", "logit_bias": {"1": "1"}}', 400, "logit_bias.1", "number"),
    (b'{"prompt": "a", "logit_bias": {"1": NaN}}', 400, "logit_bias.1", "finite"),
    (b'{"prompt": "a", "logit_bias": {"259": 1}}', 400, "logit_bias.259", "between 0 and 258"),
    (
        b'{"prompt": "a", "logit_bias": {%s}}' % b",".join(b'"%d":1' % i for i in range(301)),
        400,
        "logit_bias",
        "at most 300",
    ),
    (b'{"prompt": "a", "min_tokens": -1}', 400, "min_tokens", "0"),
    (b'{"prompt": "a", "min_tokens": 3}', 400, "min_tokens", "max_tokens, which is 2"),
    (b'{"prompt": "a", "max_tokens": 0}', 400, "max_tokens", "at least 1"),
    (b'{"prompt": "a", "stop": ["b", "c", "d", "e", "f"]}', 400, "stop", "at most 4"),
    (
        b'{"prompt": "a", "stream": true, "stream_options": {"x": 1}}',
        400,
        "stream_options.x",
        "unknown field",
    ),
    (b'{"prompt": "a", "user": 5}', 400, "user", "string"),
    (b'{"prompt": "a", "mode": "recall"}', 400, "mode", "its modes are 'copy' and 'raw'"),
    (b'{"prompt": "a", "mode": ""}', 400, "mode", "not trained for ''"),
    (b'{"prompt": "a", "wait_for_session": true}', 400, "wait_for_session", "session_id"),
    (b'{"prompt": ["a", "b"], "session_id": "ses-%s"}' % (b"0" * 32), 400, "prompt", "single"),
    (b'{"prompt": "a", "session_id": "x"}', 400, "session_id", "32 hexadecimal"),
    (b'{"prompt": "a", "session_id": "ses-%s"}' % (b"0" * 32), 404, None, "no session"),
    (b'{"prompt": "a", "model": "b"}', 404, "model", "there is no model 'b'"),
]


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    BAD,
    ids=[f"{i}-{body[:40]!r}" for i, (body, *_) in enumerate(BAD)],
)
def test_bad_input_is_refused_as_openai_does(
    shared: LiveServer, body: bytes, status: int, param: str | None, message: str
) -> None:
    response = post(shared, body)
    assert response.status_code == status
    answer = response.json()
    OpenAIErrorResponse.model_validate(answer)
    assert list(answer["error"]) == ["message", "type", "param", "code"]
    assert message in answer["error"]["message"]
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"


def test_after_bad_input_the_next_request_works(shared: LiveServer) -> None:
    assert post(shared, {"prompt": "hello"}).json()["choices"][0]["text"] == "hello"
    shared.wait_until_idle()


def test_prompts_that_need_more_than_there_is_are_refused_at_once(model: FakeModel) -> None:
    with serve(model, make_settings(max_reserved_pools=1.5)) as live:
        response = post(live, {"prompt": ["x" * 400] * 4})
        assert response.status_code == 413
        assert "room for 1 of these 4 prompts" in response.json()["error"]["message"]
        assert live.engine.reserved_bytes == 0
        assert live.engine.n_streams == 0
        assert post(live, {"prompt": "x" * 400}).status_code == 200
