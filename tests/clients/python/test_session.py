"""Blocks and turns of sessions, by both clients."""

import json
from typing import Any

import pytest

from causalrn_client import (
    APIConnectionError,
    InternalServerError,
    SessionNotFoundError,
    SessionUsage,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import Canned, ContractServer, asked
from tests.clients.python.contract_sessions import UNKNOWN, Log
from tests.clients.python.raw_server import http_reply, raw_server


class TestBlock:
    def test_it_makes_a_session_and_deletes_it(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        with client.session() as session:
            assert list(server.sessions.logs) == [session.id]
        assert server.sessions.logs == {}
        path = f"/sessions/{session.id}"
        assert asked(server) == [("POST", "/sessions"), ("DELETE", path)]
        assert server.received[0].body == {}

    def test_nothing_is_sent_before_it(self, client: AnyClient, server: ContractServer) -> None:
        session = client.session()
        for use in (session.info, session.delete, session.fork, session.snapshot):
            with pytest.raises(RuntimeError, match="open"):
                use()
        with pytest.raises(RuntimeError, match="open"):
            session.generate("x")
        session.close()
        assert server.received == []

    def test_one_to_keep_is_kept(self, client: AnyClient, server: ContractServer) -> None:
        with client.session(keep=True, ttl=3600) as session:
            pass
        assert server.sessions.logs[session.id].ttl == 3600
        assert server.received[0].body == {"ttl_seconds": 3600}
        assert session.info().ttl_seconds == 3600  # and can be used as before

    def test_one_with_an_id_is_found_and_left(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        id = server.sessions.add().id
        with client.session(id) as session, client.session(id=id):
            assert session.id == id
        assert list(server.sessions.logs) == [id]
        assert asked(server) == [("GET", f"/sessions/{id}")] * 2

    def test_one_that_is_not_there_is_not_entered(self, client: AnyClient) -> None:
        entered = False
        with pytest.raises(SessionNotFoundError), client.session(UNKNOWN):
            entered = True
        assert not entered

    def test_open_and_close_do_the_same(self, client: AnyClient, server: ContractServer) -> None:
        session = client.session()
        assert session.open() is session
        session.open()
        with session:
            assert list(server.sessions.logs) == [session.id]
        session.close()
        assert [method for method, _ in asked(server)] == ["POST", "DELETE"]

    @pytest.mark.parametrize("way", ["delete", "elsewhere", "expired"])
    def test_one_that_is_gone_at_the_end(
        self, client: AnyClient, server: ContractServer, way: str
    ) -> None:
        with client.session() as session:
            if way == "delete":
                session.delete()
            elif way == "elsewhere":
                client.session(session.id).delete()
            else:
                server.sessions.clear()
        assert server.sessions.logs == {}

    def test_an_error_of_the_deletion_alone_is_raised(
        self, connect: Connect, server: ContractServer
    ) -> None:
        client = connect(server.url, max_retries=0)
        with pytest.raises(InternalServerError), client.session() as session:
            server.answer_next(Canned(500))
        session.close()  # which tries again
        assert server.sessions.logs == {}

    @pytest.mark.parametrize("status", [204, 404, 500, 503])
    def test_an_error_of_the_block_is_never_hidden(
        self, client: AnyClient, server: ContractServer, status: int
    ) -> None:
        with pytest.raises(KeyError) as caught, client.session() as session:  # noqa: PT012
            if status == 404:
                server.answer_next(Canned.error(404, "session_not_found", "gone"))
            elif status != 204:
                server.answer_next(Canned(status, b"no", {"retry-after": "60"}))
            raise KeyError
        # Deleted, or tried to once, and without waiting.
        assert [method for method, _ in asked(server)] == ["POST", "DELETE"]
        notes = getattr(caught.value, "__notes__", [])
        if status in {204, 404}:
            assert notes == []
        else:
            assert len(notes) == 1
            assert session.id in notes[0]
            assert str(status) in notes[0]

    def test_nor_where_the_server_is_gone(self, connect: Connect) -> None:
        with raw_server(http_reply(json.dumps(Log(UNKNOWN).describe()).encode())) as server:
            with pytest.raises(KeyError) as caught, connect(server.url).session():
                raise KeyError
            assert server.connections == 2
        assert "no answer" in caught.value.__notes__[0]

    def test_a_closed_client_hides_nothing_either(
        self, connect: Connect, server: ContractServer
    ) -> None:
        client = connect(server.url, http_client=None)
        with pytest.raises(KeyError) as caught, client.session():  # noqa: PT012
            client.close()
            raise KeyError
        assert "closed" in caught.value.__notes__[0]

    def test_an_error_leaves_a_kept_one_alone(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        with pytest.raises(KeyError), client.session(keep=True):
            raise KeyError
        assert len(server.sessions.logs) == 1


class TestTurns:
    def test_they_go_on_from_each_other(self, client: AnyClient, server: ContractServer) -> None:
        with client.session() as session:
            first = session.generate("hé")
            assert first.text == "hé"
            assert first.session == SessionUsage(id=session.id, n_tokens=8)
            second = session.generate("lo", temperature=0.5, wait=True)
            assert second.session == SessionUsage(id=session.id, n_tokens=14)
        assert server.received[1].body == {"prompt": "hé", "session_id": session.id}
        assert server.received[2].body == {
            "prompt": "lo",
            "temperature": 0.5,
            "session_id": session.id,
            "wait_for_session": True,
        }

    def test_streamed(self, client: AnyClient, server: ContractServer) -> None:
        with client.session() as session:
            with session.stream("hello", mode="copy", wait=False) as stream:
                chunks = list(stream)
            assert "".join(chunk.text for chunk in chunks) == "hello"
            usage = SessionUsage(id=session.id, n_tokens=12)
            assert [chunk.session for chunk in chunks] == [None] * 5 + [usage]
            assert stream.result().session == usage
        assert server.received[1].body == {
            "prompt": "hello",
            "mode": "copy",
            "session_id": session.id,
            "wait_for_session": False,
            "stream": True,
        }

    def test_read_and_recall(self, client: AnyClient, server: ContractServer) -> None:
        with client.session() as session:
            read = session.read("Call me Ishmael.", deadline=9, request_id="mine")
            assert (read.text, read.token_ids) == ("", [])
            assert read.session == SessionUsage(id=session.id, n_tokens=18)
            session.read(token_ids=[104, 105])
            assert session.recall("Call", max_tokens=99).text == " me Ishmael."
        bodies = [received.body for received in server.received[1:4]]
        assert [body.pop("session_id") for body in bodies] == [session.id] * 3
        assert bodies == [
            {"prompt": "Call me Ishmael.", "mode": "copy", "max_tokens": 0, "timeout": 9},
            {"token_ids": [104, 105], "mode": "copy", "max_tokens": 0},
            {"prompt": "Call", "mode": "recall", "max_tokens": 99},
        ]
        assert server.received[1].headers["x-request-id"] == "mine"

    @pytest.mark.parametrize("prompt", [{"prompt": ""}, {"token_ids": []}])
    def test_an_empty_prompt_is_sent(
        self, client: AnyClient, server: ContractServer, prompt: dict[str, Any]
    ) -> None:
        with client.session() as session:
            assert session.generate(**prompt, mode="raw").text == "..."
        assert server.received[1].body == prompt | {"mode": "raw", "session_id": session.id}

    def test_the_client_itself_takes_them(self, client: AnyClient, server: ContractServer) -> None:
        id = server.sessions.add().id
        fields: dict[str, Any] = {"mode": "raw", "session_id": id, "wait_for_session": True}
        usage = SessionUsage(id=id, n_tokens=5)
        assert client.generate("hi", **fields).session == usage
        assert client.stream("hi", **fields).result().session == SessionUsage(id=id, n_tokens=10)
        assert server.received[0].body == {"prompt": "hi"} | fields
        assert server.received[1].body == {"prompt": "hi", "stream": True} | fields

    def test_without_a_session_there_is_none(self, client: AnyClient) -> None:
        assert client.generate("x").session is None
        assert client.stream("x").result().session is None

    def test_a_turn_of_one_that_is_gone(self, client: AnyClient) -> None:
        session = client.session(UNKNOWN)  # which knows its id, and need not be opened
        with pytest.raises(SessionNotFoundError):
            session.generate("x")
        with pytest.raises(SessionNotFoundError), session.stream("x"):
            pass

    def test_an_unknown_keyword_is_refused(self, client: AnyClient, server: ContractServer) -> None:
        for method in ("generate", "stream", "recall", "read"):
            with pytest.raises(TypeError, match="temprature"):
                getattr(client.session(UNKNOWN), method)("x", temprature=1)
        assert server.received == []


def test_connection_errors_are_no_other(connect: Connect, unused_url: str) -> None:
    client = connect(unused_url, max_retries=0)
    for act in (
        client.session().open,
        client.session(UNKNOWN).delete,
        client.session(UNKNOWN).info,
    ):
        with pytest.raises(APIConnectionError) as caught:
            act()
        assert not caught.value.may_have_arrived
