"""What is asked about models and tokenizers, and how the answers are read."""

from typing import Any

import pytest

from causalrn_client import (
    AdminModel,
    APIStatusError,
    ConflictError,
    Health,
    InvalidRequestError,
    Model,
    ModelLoadError,
    ModelNotFoundError,
    ResponseFormatError,
    ServiceUnavailableError,
    Tokenization,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer

SERVING = {
    "name": "copy-bytes",
    "status": "serving",
    "is_default": True,
    "fingerprint": "00ff",
    "error": None,
}
FAILED = SERVING | {
    "name": "broken", "status": "failed", "is_default": False, "fingerprint": None, "error": "no"
}  # fmt: skip
TOKENS = {"count": 2, "max_model_len": 64, "tokens": [104, 105], "token_strs": ["h", "i"]}


def test_models(client: AnyClient, server: ContractServer) -> None:
    data = [{"id": "a", "object": "model", "created": 5, "owned_by": "us", "root": "r"}]
    server.answer_next(Canned.of({"object": "list", "data": data}))
    (model,) = client.models()
    assert (model.id, model.created, model.owned_by) == ("a", 5, "us")
    assert model.model_extra == {"object": "model", "root": "r"}
    assert server.received[0].path == "/v1/models"
    server.answer_next(Canned.of({"data": [{"id": "b"}]}))
    assert client.models() == [Model(id="b")]


def test_tokenize(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, model="mine")
    server.answer_next(*[Canned.of(TOKENS)] * 2)
    assert client.tokenize("hi") == Tokenization.model_validate(TOKENS)
    client.tokenize(
        "hi", model="other", add_special_tokens=False, mode="raw", return_token_strs=True
    )
    assert [received.body for received in server.received] == [
        {
            "prompt": "hi",
            "model": "mine",
            "add_special_tokens": True,
            "return_token_strs": False,
        },
        {
            "prompt": "hi",
            "model": "other",
            "add_special_tokens": False,
            "mode": "raw",
            "return_token_strs": True,
        },
    ]
    assert {received.path for received in server.received} == {"/tokenize"}


def test_detokenize(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(Canned.of({"prompt": "hi"}))
    assert client.detokenize(range(104, 106)) == "hi"
    assert (server.received[0].path, server.received[0].body) == (
        "/detokenize",
        {"tokens": [104, 105]},
    )


def test_tokenizer_info(client: AnyClient, server: ContractServer) -> None:
    specials = {"bos": 256, "sep": 257, "eos": 258}
    body = {"model": "a&b", "tokenizer_class": "bytes", "vocab_size": 259, "model_max_length": 64}
    body |= {f"{name}_token": f"<{name}>" for name in specials}
    body |= {f"{name}_token_id": token_id for name, token_id in specials.items()}
    server.answer_next(Canned.of(body | {"pad_token": None}))
    found = client.tokenizer_info(model="a&b")
    assert (found.eos_token, found.eos_token_id) == ("<eos>", 258)
    assert found.model_extra == {"pad_token": None}
    assert (server.received[0].path, server.received[0].query) == (
        "/tokenizer_info",
        "model=a%26b",
    )


def test_info_of_a_model(client: AnyClient, server: ContractServer) -> None:
    client.info(model="copy/bytes")
    assert server.received[0].query == "model=copy%2Fbytes"
    server.answer_next(Canned.error(404, "model_not_found", "served are a", "model"))
    with pytest.raises(ModelNotFoundError, match="served are a"):
        client.info(model="b")


def test_health(client: AnyClient, server: ContractServer) -> None:
    body = {"status": "ready", "running": 1, "waiting": 2, "pages_used": 3, "pages_total": 4}
    server.answer_next(Canned.of(body))
    assert client.health() == Health.model_validate(body)
    assert server.received[0].path == "/health"
    server.answer_next(Canned.error(503, "shutting_down", "the server is shutting down"))
    with pytest.raises(ServiceUnavailableError, match="shutting down"):
        client.health()
    assert len(server.received) == 2  # it asks once


class TestAdmin:
    def test_list(self, client: AnyClient, server: ContractServer) -> None:
        server.answer_next(Canned.of({"models": [SERVING, FAILED]}))
        assert client.admin_models() == [
            AdminModel.model_validate(SERVING),
            AdminModel.model_validate(FAILED),
        ]
        assert (server.received[0].method, server.received[0].path) == ("GET", "/admin/models")

    def test_load(self, client: AnyClient, server: ContractServer) -> None:
        server.answer_next(Canned.of(SERVING, 201))
        assert client.load_model("copy-bytes").status == "serving"
        assert (server.received[0].method, server.received[0].path) == (
            "PUT",
            "/admin/models/copy-bytes",
        )

    def test_load_of_what_is_not_there(self, client: AnyClient, server: ContractServer) -> None:
        server.answer_next(Canned.error(404, "model_not_found", "no checkpoint"))
        with pytest.raises(ModelNotFoundError):
            client.load_model("../up")
        assert server.received[0].path == "/admin/models/..%2Fup"

    def test_load_of_what_is_broken(self, client: AnyClient, server: ContractServer) -> None:
        server.answer_next(Canned.error(422, "model_load_failed", "a tensor is missing"))
        with pytest.raises(ModelLoadError, match="a tensor is missing"):
            client.load_model("broken")

    def test_unload(self, client: AnyClient, server: ContractServer) -> None:
        server.answer_next(Canned(204, b""))
        client.unload_model("a")
        assert (server.received[0].method, server.received[0].path) == (
            "DELETE",
            "/admin/models/a",
        )
        server.answer_next(Canned.error(409, "default_model", "it is the default"))
        with pytest.raises(ConflictError, match="it is the default"):
            client.unload_model("a")

    def test_unload_of_what_an_earlier_attempt_unloaded(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        lost = Canned(502, headers={"retry-after": "0"})
        gone = Canned.error(404, "model_not_found", "not served")
        server.answer_next(lost, gone, gone)
        client.unload_model("a")
        with pytest.raises(ModelNotFoundError):
            client.unload_model("a")

    @pytest.mark.parametrize("name", ["", ".", "..", "\ud800"])
    def test_names_that_lead_elsewhere(
        self, client: AnyClient, server: ContractServer, name: str
    ) -> None:
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InvalidRequestError, match="name of a model"):
                change(name)
        assert server.received == []


@pytest.mark.parametrize("method", ["tokenize", "info"])
def test_a_lone_surrogate(client: AnyClient, server: ContractServer, method: str) -> None:
    ask: dict[str, Any] = {
        "tokenize": lambda: client.tokenize("a\ud800"),
        "info": lambda: client.info(model="a\ud800"),
    }
    with pytest.raises(InvalidRequestError, match=r"lone surrogate, U\+D800, at position 1"):
        ask[method]()
    assert server.received == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"models": 1}', b'{"data": [{"id": 5}]}'])
@pytest.mark.parametrize(
    "method", ["models", "admin_models", "load_model", "tokenize", "detokenize", "health"]
)
def test_other_answers_are_format_errors(
    client: AnyClient, server: ContractServer, body: bytes, method: str
) -> None:
    server.answer_next(Canned(body=body))
    needed: dict[str, list[Any]] = {"load_model": ["a"], "tokenize": ["a"], "detokenize": [[1]]}
    with pytest.raises(ResponseFormatError):
        getattr(client, method)(*needed.get(method, []))


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_refusals(connect: Connect, server: ContractServer, status: int) -> None:
    client = connect(server.url, max_retries=0)
    calls: list[Any] = [
        client.models,
        client.admin_models,
        lambda: client.load_model("a"),
        lambda: client.unload_model("a"),
        lambda: client.tokenize("a"),
        lambda: client.detokenize([1]),
        client.tokenizer_info,
        client.info,
        client.health,
    ]
    for call in calls:
        server.answer_next(Canned.error(status, "some", "no"))
        with pytest.raises(APIStatusError, match="no") as caught:
            call()
        assert caught.value.status_code == status
    assert len(server.received) == len(calls)
