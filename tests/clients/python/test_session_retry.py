"""What is sent again in sessions, and what is never sent twice."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from causalrn_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CausalRNError,
    SessionBusyError,
    SessionNotFoundError,
)
from causalrn_client.errors import TYPED_ERRORS
from causalrn_client.retry import RetryPolicy
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer
from tests.clients.python.contract_sessions import MAGIC, Log
from tests.clients.python.raw_server import Reply, http_reply, raw_server

ID = "ses-" + "1" * 32
SNAPSHOT = MAGIC + b"{}"

ONCE: dict[str, Callable[[AnyClient], object]] = {
    "generate": lambda client: client.session(ID).generate("x"),
    "stream": lambda client: client.session(ID).stream("x").result(),
    "read": lambda client: client.session(ID).read("x"),
    "recall": lambda client: client.session(ID).recall("x"),
    "client": lambda client: client.generate("x", session_id=ID),
    "create": lambda client: client.session().open(),
    "fork": lambda client: client.session(ID).fork(),
}
OFTEN: dict[str, Callable[[AnyClient], object]] = {
    "attach": lambda client: client.session(ID).open(),
    "info": lambda client: client.session(ID).info(),
    "delete": lambda client: client.session(ID).delete(),
    "snapshot": lambda client: client.session(ID).snapshot(),
    "restore": lambda client: client.restore(SNAPSHOT, ID),
    "list": lambda client: list(client.sessions()),
}


def refused(status: int, kind: str | None, retry_after: str | None = "0") -> APIStatusError:
    headers = httpx.Headers({} if retry_after is None else {"retry-after": retry_after})
    return TYPED_ERRORS.get((status, kind), APIStatusError)(status, kind, "no", None, headers)


def error(status: int, kind: str | None, **headers: str) -> Canned:
    body = {"error": {"type": kind, "message": "no", "param": None}} if kind else "no"
    return Canned(status, json.dumps(body).encode(), {"retry-after": "0"} | headers)


def is_sent_again(failure: CausalRNError, *, repeatable: bool) -> bool:
    policy = RetryPolicy(1, jitter=lambda: 0.0)
    return policy.delay(failure, 0, repeatable=repeatable) is not None


@pytest.mark.parametrize("act", ONCE.values(), ids=ONCE)
def test_cut_after_it_was_sent_a_turn_is_not_sent_again(
    connect: Connect, act: Callable[[AnyClient], object]
) -> None:
    with raw_server() as server:
        with pytest.raises(APIConnectionError) as caught:
            act(connect(server.url))
        assert server.connections == 1
    assert caught.value.may_have_arrived


@pytest.mark.parametrize("act", OFTEN.values(), ids=OFTEN)
def test_cut_after_it_was_sent_the_rest_is_sent_again(
    connect: Connect, act: Callable[[AnyClient], object]
) -> None:
    with raw_server() as server:
        with pytest.raises(APIConnectionError):
            act(connect(server.url, max_retries=1))
        assert server.connections == 2


def test_a_turn_is_seen_once(client: AnyClient, server: ContractServer) -> None:
    """Whatever comes between this client and the server, one that answers late, say."""
    log = server.sessions.add()
    server.answer_next(error(502, None))
    with pytest.raises(APIStatusError):
        client.session(log.id).generate("x")
    assert [received.path for received in server.received] == ["/generate"]


@pytest.mark.parametrize(
    ("status", "kind", "sent_again"),
    [
        (409, "session_busy", True),
        (409, "session_exists", False),
        (409, "session_of_other_weights", False),
        (409, None, False),
        (429, "rate_limited", True),
        (429, None, True),
        (500, "session_damaged", False),
        (502, None, False),
        (503, "overloaded", True),
        (503, "not_ready", True),
        (503, "shutting_down", False),  # also told to turns that had begun
        (503, "session_store_unavailable", False),  # it may have taken the prompt before
        (503, None, False),  # a proxy's
        (504, None, False),
        (504, "deadline_exceeded", False),
    ],
)
def test_refusals(
    client: AnyClient, server: ContractServer, status: int, kind: str | None, sent_again: bool
) -> None:
    log = server.sessions.add()
    for act in (client.session(log.id).generate, lambda text: client.session(ttl=len(text)).open()):
        server.received.clear()
        server.answer_next(error(status, kind))
        if sent_again:
            act("x")
        else:
            with pytest.raises(APIStatusError):
                act("x")
        assert len(server.received) == 1 + sent_again
    failure = refused(status, kind)
    assert is_sent_again(failure, repeatable=False) == sent_again
    transient = status in {429, 502, 503, 504} and kind != "deadline_exceeded"
    assert is_sent_again(failure, repeatable=True) == (transient or kind == "session_busy")


@pytest.mark.parametrize(
    ("status", "kind", "word", "repeated", "turn"),
    [
        (503, "overloaded", "false", False, False),
        (503, "overloaded", "true", True, True),
        (503, "overloaded", "maybe", True, True),
        (429, None, "false", False, False),
        (409, "session_busy", "false", False, False),
        (500, None, "true", True, False),
        (409, "session_exists", "true", True, False),
        (504, "deadline_exceeded", "true", True, False),
    ],
)
def test_the_server_has_the_last_word(
    client: AnyClient,
    server: ContractServer,
    status: int,
    kind: str | None,
    word: str,
    repeated: bool,
    turn: bool,
) -> None:
    log = server.sessions.add()
    for act, sent_again in ((client.generate, repeated), (client.session(log.id).generate, turn)):
        server.received.clear()
        server.answer_next(error(status, kind, **{"x-should-retry": word}))
        if sent_again:
            act("x")
        else:
            with pytest.raises(APIStatusError):
                act("x")
        assert len(server.received) == 1 + sent_again


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_busy_session_is_asked_again_only_if_the_server_says_when(repeatable: bool) -> None:
    assert not is_sent_again(refused(409, "session_busy", None), repeatable=repeatable)
    policy = RetryPolicy(1)
    delay = policy.delay(refused(409, "session_busy", "3"), 0, repeatable=repeatable)
    assert delay == 3.0


def test_a_busy_session_is_told_in_the_end(client: AnyClient, server: ContractServer) -> None:
    server.answer_next(*[error(409, "session_busy")] * 3)
    with pytest.raises(SessionBusyError):
        client.session(ID).generate("x")
    assert len(server.received) == 3


@pytest.mark.parametrize(
    ("failure", "repeated", "turn"),
    [
        (APIConnectionError("cut"), True, False),
        (APIConnectionError("refused", may_have_arrived=False), True, True),
        (APITimeoutError("slow", "connect"), True, True),
        (APITimeoutError("slow", "pool"), False, False),
        (APITimeoutError("slow", "read"), False, False),
        (APITimeoutError("slow", "write"), False, False),
    ],
)
def test_broken_connections(failure: APIConnectionError, repeated: bool, turn: bool) -> None:
    assert is_sent_again(failure, repeatable=True) == repeated
    assert is_sent_again(failure, repeatable=False) == turn


@pytest.mark.parametrize("act", [*ONCE.values(), *OFTEN.values()], ids=[*ONCE, *OFTEN])
def test_what_nobody_received_is_told(
    connect: Connect, unused_url: str, act: Callable[[AnyClient], object]
) -> None:
    with pytest.raises(APIConnectionError) as caught:
        act(connect(unused_url, max_retries=0))
    assert not caught.value.may_have_arrived


@pytest.mark.parametrize("act", [ONCE["generate"], OFTEN["restore"]], ids=["generate", "restore"])
def test_a_slow_answer_is_not_asked_for_again(
    connect: Connect, act: Callable[[AnyClient], object]
) -> None:
    with raw_server(Reply(then_silence=True)) as server:
        with pytest.raises(APITimeoutError) as caught:
            act(connect(server.url, timeout=httpx.Timeout(20, read=0.3)))
        assert caught.value.may_have_arrived
        assert server.connections == 1


@pytest.mark.parametrize("first", [error(502, None), error(503, "overloaded")])
def test_a_deletion_whose_answer_got_lost(
    client: AnyClient, server: ContractServer, first: Canned
) -> None:
    log = server.sessions.add()
    del server.sessions.logs[log.id]
    server.answer_next(first)
    client.session(log.id).delete()
    assert len(server.received) == 2
    with pytest.raises(SessionNotFoundError):
        client.session(log.id).delete()


def test_a_turn_without_a_session_is_sent_again(connect: Connect) -> None:
    generation: dict[str, Any] = {
        "id": "gen-1",
        "model": "m",
        "text": "x",
        "token_ids": [120],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    with raw_server(Reply(), http_reply(json.dumps(generation).encode())) as server:
        assert connect(server.url).generate("x", mode="copy").text == "x"
        assert server.connections == 2


def test_a_cut_restore_is_sent_whole_again(connect: Connect) -> None:
    whole = http_reply(json.dumps(Log(ID).describe()).encode())
    seen: list[tuple[int, int | None]] = []
    with raw_server(Reply(), whole) as server:
        client = connect(server.url)
        client.restore(SNAPSHOT, progress=lambda done, total: seen.append((done, total)))
        assert server.connections == 2
    n = len(SNAPSHOT)
    assert seen == [(0, n), (n, n)] * 2
