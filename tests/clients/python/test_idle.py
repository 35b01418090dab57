"""What becomes of a request on a connection that the server has closed meanwhile."""

import pytest

from causalrn_client import APIConnectionError
from causalrn_client.http_options import KEPT
from tests.clients.python.blocking import open_connections
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import ContractServer
from tests.clients.python.idle_cutter import idle_cutter
from tests.clients.python.raw_server import Reply, raw_server


def test_a_turn_is_taken_once(connect: Connect, server: ContractServer) -> None:
    with idle_cutter(server.url) as relay:
        client = connect(relay.url, http_client=None, max_retries=0)
        with client.session() as session:
            assert session.info().n_tokens == 0
            assert session.generate("one").text == "one"
            assert session.stream("two").result().text == "two"
            session.read("three")
            session.fork().delete()
            turns = [r for r in server.received if r.path == "/generate"]
            assert [turn.body["prompt"] for turn in turns] == ["one", "two", "three"]
            session.info()
        assert relay.n_cut > 0  # of the requests that can be repeated


@pytest.mark.parametrize("way", ["generate", "stream", "restore", "snapshot"])
def test_what_can_be_repeated_is_so_at_once(
    connect: Connect, server: ContractServer, way: str
) -> None:
    with idle_cutter(server.url) as relay:
        client = connect(relay.url, http_client=None, max_retries=0)
        session = client.session(server.sessions.add().id)
        snapshot = session.snapshot()
        for _ in range(3):
            match way:
                case "generate":
                    assert client.generate("x").text == "x"
                case "stream":
                    assert client.stream("x").result().text == "x"
                case "restore":
                    assert client.restore(snapshot, session.id).id == session.id
                case "snapshot":
                    assert session.snapshot() == snapshot
        assert relay.n_cut == 2
        assert len(server.received) == 4


def test_a_client_of_httpx_that_is_given_keeps_its_connections(
    connect: Connect, server: ContractServer
) -> None:
    """So this package cannot choose a new one, and says what became of a turn."""
    with idle_cutter(server.url) as relay:
        client = connect(relay.url)
        session = client.session().open()
        with pytest.raises(APIConnectionError) as caught:
            session.generate("x")
        assert caught.value.may_have_arrived
        assert (relay.n_cut, len(server.received)) == (1, 1)


def test_a_new_connection_that_breaks_is_told(connect: Connect) -> None:
    with raw_server(Reply(), Reply()) as server:
        with pytest.raises(APIConnectionError):
            connect(server.url, http_client=None, max_retries=0).generate("x")
        assert server.connections == 1


def test_idle_connections_are_given_up_before_the_server_does() -> None:
    assert KEPT.keepalive_expiry is not None
    assert KEPT.keepalive_expiry < 75


def test_turns_leave_no_idle_connections(connect: Connect, server: ContractServer) -> None:
    client = connect(server.url, http_client=None)
    session = client.session(server.sessions.add().id)
    for text in ("a", "b"):
        session.generate(text)
    assert open_connections(client) == []
    session.info()
    assert len(open_connections(client)) == 1
