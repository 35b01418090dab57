"""What cannot be meant is an error of this package that says what is wrong, and nothing is sent."""

import asyncio
import gc
import io
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from numpy import array, float32, int64

from causalrn_client import (
    AsyncClient,
    BatchError,
    Client,
    ConfigurationError,
    IncompleteStreamError,
    InvalidRequestError,
    NotOpenError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import ContractServer

ID = "ses-" + "1" * 32
DEEP: list[Any] = []
DEEP.append(DEEP)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "base_url": {"base_url": 5},
    "base_url of bytes": {"base_url": b"http://localhost"},
    "base_url with a port": {"base_url": "http://localhost:port"},
    "api_key": {"api_key": b"key"},
    "timeout": {"timeout": "5"},
    "timeout of nothing": {"timeout": 0},
    "timeout in the past": {"timeout": httpx.Timeout(5, read=-1)},
    "timeout without end": {"timeout": float("inf")},
    "timeout of no number": {"timeout": float("nan")},
    "max_retries": {"max_retries": "2"},
    "max_retries of None": {"max_retries": None},
    "headers": {"headers": 5},
    "headers of numbers": {"headers": {"x": 5}},
    "headers of other letters": {"headers": {"x": "é"}},
    "http_client": {"http_client": object()},
}
REQUESTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "bytes": (lambda client: client.generate(b"x"), "prompt must be a text, but is of type bytes"),
    "ids": (lambda client: client.generate([104]), "pass token ids as token_ids"),
    "stream": (lambda client: client.stream(b"x"), "prompt must be a text"),
    "a turn": (lambda client: client.session(ID).generate(b"x"), "prompt must be a text"),
    "text as ids": (lambda client: client.generate(token_ids="x"), "token_ids must be integers"),
    "floats": (lambda client: client.generate(token_ids=[1.5]), "token_ids must be integers"),
    "one id": (lambda client: client.generate(token_ids=5), "token_ids must be integers"),
    "stop": (lambda client: client.generate("x", stop=b"x"), "stop cannot be sent"),
    "stops": (lambda client: client.generate("x", stop=[b"x"]), "stop cannot be sent"),
    "bias": (lambda client: client.generate("x", logit_bias=[1]), "logit_bias must be a mapping"),
    "biases": (lambda client: client.generate("x", logit_bias={"a": 1}), "logit_bias must be int"),
    "nan": (lambda client: client.generate("x", top_p=float("nan")), "top_p cannot be sent"),
    "object": (lambda client: client.generate("x", seed=object()), "seed cannot be sent"),
    "deadline": (lambda client: client.generate("x", deadline=b"5"), "deadline cannot be sent"),
    "recursion": (lambda client: client.generate("x", seed=DEEP), "seed cannot be sent"),
    "surrogate": (lambda client: client.generate("x", stop=[["\ud800"]]), "lone surrogate"),
    "request_id": (lambda client: client.generate("x", request_id=5), "request_id must be"),
    "session": (lambda client: client.session(5).open(), "not the id of a session: 5"),
    "no pages": (lambda client: client.session("").info(), "not the id of a session: ''"),
    "prompts": (lambda client: client.generate_many("abc"), "prompts must be a list"),
    "a prompt": (lambda client: client.generate_many(["a", b"b"]), "a text or a list of token ids"),
    "one": (lambda client: client.generate_many([5]), "a text or a list of token ids"),
    "workers": (lambda client: client.generate_many(["a"], max_concurrency="2"), "max_concurrency"),
    "score": (lambda client: client.score(b"x", "x"), "a text or a list of token ids"),
    "scores": (lambda client: client.score([0.5], [1]), "token_ids must be integers"),
    "pairs": (lambda client: client.score_many(["ab"]), "prompts with their completions"),
    "triples": (lambda client: client.score_many([("a", "b", "c")]), "with their completions"),
    "tokenize": (lambda client: client.tokenize(b"x"), "prompt cannot be sent"),
    "detokenize": (lambda client: client.detokenize("hi"), "tokens must be integers"),
    "load": (lambda client: client.load_model(5), "not the name of a model"),
    "unload": (lambda client: client.unload_model(5), "not the name of a model"),
    "restore": (lambda client: client.restore(5), "a snapshot is the path of a file"),
    "text file": (lambda client: client.restore(io.StringIO("x")), "open in binary mode"),
    "snapshot": (lambda client: client.session(ID).snapshot(5), "not the path of a file: 5"),
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_a_client(kind: type[Client | AsyncClient], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name.split()[0]}"):
        kind(**ARGUMENTS[name])


def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSALRN_BASE_URL", "localhost:8000")
    with pytest.raises(ConfigurationError, match=r"^CAUSALRN_BASE_URL must begin with http://"):
        Client()


@pytest.mark.anyio
async def test_each_client_has_its_own_kind_of_http_client() -> None:
    with httpx.Client() as http, pytest.raises(ConfigurationError, match=r"an httpx\.AsyncClient"):
        AsyncClient(http_client=http)  # type: ignore[arg-type]
    async with httpx.AsyncClient() as http:
        with pytest.raises(ConfigurationError, match=r"an httpx\.Client, not AsyncClient"):
            Client(http_client=http)  # type: ignore[arg-type]


@pytest.mark.parametrize(("act", "message"), REQUESTS.values(), ids=REQUESTS)
def test_requests(
    client: AnyClient, server: ContractServer, act: Callable[[AnyClient], object], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        act(client)
    assert server.received == []


def test_numbers_of_other_libraries_are_numbers(client: AnyClient, server: ContractServer) -> None:
    options: dict[str, Any] = {"max_tokens": int64(2), "temperature": float32(0.5), "stop": {"x"}}
    client.generate(token_ids=array([104, 105]), **options)  # type: ignore[arg-type]
    assert server.received[0].body == {
        "token_ids": [104, 105],
        "max_tokens": 2,
        "temperature": 0.5,
        "stop": ["x"],
    }


def test_a_closed_client(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, http_client=None)
    session = client.session(ID)
    client.close()
    client.close()
    for act in (
        lambda: client.generate("x"),
        client.stream("x").result,
        client.ready,
        session.open,
        lambda: session.generate("x"),
        lambda: client.restore(b"x"),
        lambda: list(client.sessions()),
    ):
        with pytest.raises(NotOpenError, match="the client is closed: make a new one"):
            act()
    with pytest.raises(BatchError, match="the client is closed"):
        client.generate_many(["x", "y"])
    assert server.received == []


def test_a_client_that_is_closed_during_a_stream(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, http_client=None)
    server.hold()
    with client.stream("hello") as stream:
        assert next(stream).text == "h"
        client.close()
        with pytest.raises(IncompleteStreamError):
            list(stream)


def test_an_async_client_stays_in_its_loop(server: ContractServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the first loop's connection is lost
        client = AsyncClient(server.url)
        with asyncio.Runner() as first:
            first.run(client.generate("x"))
        with asyncio.Runner() as second, pytest.raises(NotOpenError, match="one event loop"):
            second.run(client.generate("x"))
        del client
        gc.collect()
