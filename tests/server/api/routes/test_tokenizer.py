from typing import Any

import httpx
import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel, letters
from tests.server.live_server import LiveServer, serve


def post(live: LiveServer, path: str, body: Any) -> httpx.Response:
    with live.client() as client:
        return client.post(path, json=body)


def test_text_becomes_ids(shared: LiveServer) -> None:
    answer = post(shared, "/tokenize", {"prompt": "hé", "return_token_strs": True}).json()
    assert answer == {
        "count": 5,
        "max_model_len": 4096,
        "tokens": [256, 104, 195, 169, 257],
        "token_strs": ["<bos>", "h", "bytes:\\xc3", "bytes:\\xa9", "<sep>"],
    }


@pytest.mark.parametrize(
    ("ask", "tokens"),
    [
        ({"prompt": "a"}, [256, 97, 257]),
        ({"prompt": "a", "mode": "raw"}, [97]),
        ({"prompt": "a", "add_special_tokens": False}, [97]),
        ({"prompt": "", "add_special_tokens": False}, []),
        ({"prompt": "<eos>", "add_special_tokens": False}, [258]),
        ({"prompt": "<eos>"}, [256, *b"<eos>", 257]),
        ({"prompt": "<eos>!", "add_special_tokens": False}, list(b"<eos>!")),
        ({"prompt": "a", "model": "fake-copy", "mode": "copy"}, [256, 97, 257]),
    ],
)
def test_special_ids_go_where_they_are_needed(
    shared: LiveServer, ask: dict[str, Any], tokens: list[int]
) -> None:
    answer = post(shared, "/tokenize", ask).json()
    assert (answer["tokens"], answer["count"]) == (tokens, len(tokens))
    assert answer["token_strs"] is None


def test_a_text_may_be_longer_than_the_model_takes(shared: LiveServer) -> None:
    answer = post(shared, "/tokenize", {"prompt": "x" * 10_000}).json()
    assert answer["count"] == len(answer["tokens"]) == 10_002


def test_what_is_tokenized_is_what_a_prompt_becomes(shared: LiveServer) -> None:
    text = "any text, 世界"
    tokens = post(shared, "/tokenize", {"prompt": text}).json()["tokens"]
    with shared.client() as client:
        one, other = (
            client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 30}).json()
            for prompt in (text, tokens)
        )
    assert one["choices"][0].pop("verified") is True
    assert other["choices"][0].pop("verified") is None  # nobody knows that these ids ask for a copy
    assert one["choices"] == other["choices"]


@pytest.mark.parametrize("text", ["", "hello", "grüße, 世界 👩‍🚀"])
def test_ids_become_text(shared: LiveServer, text: str) -> None:
    body = {"tokens": list(text.encode()), "model": "fake-copy"}
    assert post(shared, "/detokenize", body).json() == {"prompt": text}


def test_what_is_no_text_is_replaced(shared: LiveServer) -> None:
    answer = post(shared, "/detokenize", {"tokens": [104, 195, 104]}).json()
    assert answer == {"prompt": "h\ufffdh"}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "message"),
    [
        ("/tokenize", {}, 422, "prompt", "required"),
        ("/tokenize", {"prompt": 5}, 422, "prompt", "string"),
        (
            "/tokenize",
            {"prompt": "x" * 4095, "return_token_strs": True},
            422,
            "return_token_strs",
            "4097 tokens, but it works",
        ),
        ("/tokenize", {"prompt": "a", "mode": "recall"}, 422, "mode", "not trained for 'recall'"),
        ("/tokenize", {"prompt": "a", "mode": 5}, 422, "mode", "string"),
        ("/tokenize", {"prompt": "a", "text": "a"}, 422, "text", "unknown field"),
        ("/tokenize", {"prompt": "a", "model": "b"}, 404, "model", "no model 'b'"),
        ("/detokenize", {}, 422, "tokens", "required"),
        ("/detokenize", {"tokens": "a"}, 422, "tokens", "list"),
        ("/detokenize", {"tokens": [1, "a"]}, 422, "tokens[1]", "integer"),
        ("/detokenize", {"tokens": [1, 259]}, 422, "tokens[1]", "between 0 and 258"),
        ("/detokenize", {"tokens": [-1]}, 422, "tokens[0]", "between 0 and 258"),
        ("/detokenize", {"tokens": [1, 2, 257]}, 422, "tokens[2]", "special id <sep>"),
        ("/detokenize", {"tokens": [1], "model": "b"}, 404, "model", "no model 'b'"),
    ],
)
def test_bad_input_is_refused(
    shared: LiveServer, path: str, body: Any, status: int, param: str, message: str
) -> None:
    response = post(shared, path, body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["param"] == param
    assert message in error["message"]


def test_a_character_that_the_tokenizer_lacks() -> None:
    with serve(letters(), make_settings()) as live:
        assert post(live, "/tokenize", {"prompt": "ab"}).json()["tokens"] == [0, 3, 4, 1]
        response = post(live, "/tokenize", {"prompt": "aé"})
        assert response.status_code == 422
        assert "'é' at position 1" in response.json()["error"]["message"]


def test_the_tokenizer_is_described() -> None:
    with serve(FakeModel(recall=True), make_settings()) as live, live.client() as client:
        answer = client.get("/tokenizer_info").json()
        assert answer == {
            "model": "fake-copy",
            "tokenizer_class": "bytes",
            "vocab_size": 259,
            "model_max_length": 4096,
            "bos_token": "<bos>",
            "bos_token_id": 256,
            "sep_token": "<sep>",
            "sep_token_id": 257,
            "eos_token": "<eos>",
            "eos_token_id": 258,
            "pad_token": None,
            "chat_template": None,
        }
        assert client.get("/tokenizer_info?model=fake-copy").json() == answer
        assert client.get("/tokenizer_info?model=b").status_code == 404
        assert client.get("/tokenizer_info?name=b").status_code == 422
        recall = client.post("/tokenize", json={"prompt": "a", "mode": "recall"}).json()
        assert recall["tokens"] == [256, 257, 97]
