"""Forks of sessions, by both clients."""

import pytest

from causalrn_client import (
    SessionBusyError,
    TooManySessionsError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.clients.python.contract_server import ContractServer


class TestFork:
    def test_it_holds_the_same_and_goes_its_own_way(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        with client.session() as session:
            session.read("abc")
            with session.fork(ttl=60) as child:
                assert child.id != session.id
                assert child.info().n_tokens == session.info().n_tokens == 5
                child.read("d")
                assert (child.info().n_tokens, session.info().n_tokens) == (8, 5)
                assert child.info().ttl_seconds == 60
            assert list(server.sessions.logs) == [session.id]

    def test_one_to_keep_is_kept(self, client: AnyClient, server: ContractServer) -> None:
        with client.session() as session, session.fork(keep=True) as child:
            pass
        assert list(server.sessions.logs) == [child.id]

    def test_of_a_busy_one(self, connect: Connect, server: ContractServer) -> None:
        log = server.sessions.add(busy=True)
        with pytest.raises(SessionBusyError):
            connect(server.url, max_retries=0).session(log.id).fork()

    def test_of_one_too_many(self, connect: Connect, server: ContractServer) -> None:
        server.sessions.limit = 1
        with (
            connect(server.url, max_retries=0).session() as session,
            pytest.raises(TooManySessionsError),
        ):
            session.fork()
