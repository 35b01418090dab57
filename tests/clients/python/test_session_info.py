"""What the server says about sessions, one by one and in a list."""

import re
import time

import pytest

from causalrn_client import (
    AsyncClient,
    Client,
    InvalidRequestError,
    ResponseFormatError,
    SessionInfo,
    SessionNotFoundError,
)
from causalrn_client.session_id import new_session_id
from tests.clients.python.blocking import AnyClient
from tests.clients.python.contract_server import Canned, ContractServer, asked
from tests.clients.python.contract_sessions import NOW, UNKNOWN


class TestInfo:
    def test_all_of_it(self, client: AnyClient, server: ContractServer) -> None:
        log = server.sessions.add(ttl=100.0, busy=True, token_ids=[1, 2, 3])
        session = client.session(log.id)
        assert session.info() == SessionInfo(
            id=log.id,
            model="copy-bytes",
            fingerprint="00ff",
            n_tokens=3,
            state="warm",
            busy=True,
            pool_tokens=2,
            pool_bytes=65_536,
            pages_own=1,
            pages_shared=0,
            created_at=NOW - 12.5,
            used_at=NOW,
            expires_at=NOW + 100,
            age_seconds=12.5,
            ttl_seconds=100,
            token_ids=None,
        )
        assert session.info(include_token_ids=True).token_ids == [1, 2, 3]
        assert [received.query for received in server.received] == ["", "include=token_ids"]

    @pytest.mark.parametrize("id", ["", ".", "..", "a\ud800b"])
    def test_an_id_that_leads_elsewhere_is_not_sent(
        self, client: AnyClient, server: ContractServer, id: str
    ) -> None:
        for use in (client.session(id).open, client.session(id).info, client.session(id).delete):
            with pytest.raises(InvalidRequestError, match="not the id"):
                use()
        assert server.received == []

    @pytest.mark.parametrize(
        ("id", "path"),
        [
            ("../info", "/sessions/..%2Finfo"),
            ("a?b#c", "/sessions/a%3Fb%23c"),
            ("é", "/sessions/%C3%A9"),
        ],
    )
    def test_an_odd_id_stays_one_part_of_the_path(
        self, client: AnyClient, server: ContractServer, id: str, path: str
    ) -> None:
        with pytest.raises(SessionNotFoundError):
            client.session(id).info()
        assert asked(server) == [("GET", path)]

    def test_ttl_is_for_new_ones(self) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match="ttl"):
                kind().session(UNKNOWN, ttl=3)

    def test_another_answer_is_a_format_error(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        server.answer_next(Canned(201, b'{"id": 5}'), Canned(body=b"<html>"))
        for id in (None, UNKNOWN):
            with pytest.raises(ResponseFormatError):
                client.session(id).open()

    def test_its_name_is_in_its_representation(self, client: AnyClient) -> None:
        assert repr(client.session(UNKNOWN)).endswith(f"Session({UNKNOWN!r})")


class TestList:
    @pytest.mark.parametrize(("limit", "pages"), [(None, 1), (1, 5), (2, 3), (5, 1), (1000, 1)])
    def test_all_in_pages(
        self, client: AnyClient, server: ContractServer, limit: int | None, pages: int
    ) -> None:
        ids = [server.sessions.add().id for _ in range(5)]
        assert [session.id for session in client.sessions(limit=limit)] == ids
        assert len(server.received) == pages
        assert server.received[0].query == ("" if limit is None else f"limit={limit}")

    def test_pages_are_asked_for_when_they_are_needed(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        ids = [server.sessions.add().id for _ in range(5)]
        sessions = client.sessions(limit=2)
        assert server.received == []
        assert [next(sessions).id for _ in range(2)] == ids[:2]
        assert len(server.received) == 1
        assert next(sessions).id == ids[2]
        assert [r.query for r in server.received] == ["limit=2", f"limit=2&after={ids[1]}"]

    def test_none(self, client: AnyClient) -> None:
        assert list(client.sessions()) == []

    def test_pages_that_never_end_are_a_format_error(
        self, client: AnyClient, server: ContractServer
    ) -> None:
        page = Canned(body=b'{"sessions": [], "next": "same"}')
        server.answer_next(page, page)
        with pytest.raises(ResponseFormatError, match="same"):
            list(client.sessions())

    def test_a_page_is_asked_for_again(self, client: AnyClient, server: ContractServer) -> None:
        id = server.sessions.add().id
        server.answer_next(Canned(503, headers={"retry-after": "0"}))
        assert [session.id for session in client.sessions()] == [id]


def test_new_ids_are_alike_and_in_order() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_session_id())
        time.sleep(0.002)
    assert ids == sorted(set(ids))
    assert all(re.fullmatch("ses-[0-9a-f]{32}", id) for id in ids)
    assert abs(int(ids[-1][4:18], 16) / 1e6 - time.time()) < 10
