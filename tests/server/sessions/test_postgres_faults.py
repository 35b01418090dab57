"""Sessions on real servers whose PostgreSQL goes away."""

import time
from pathlib import Path

import pytest

from causalrn.model.state import RaggedBatch
from tests.server.conftest import Gate
from tests.server.session_client import SessionClient, copied, error_type
from tests.server.sessions.servers import (
    TEXT,
    assert_served,
    assert_unavailable,
    thread,
    wait_until,
    works,
)
from tests.server.sessions.store.postgres_server import PostgresServer


def test_sessions_work_again_once_postgres_does(postgres: PostgresServer) -> None:
    with thread(postgres.new_place()) as (_, api):
        id = api.create()
        api.turn(id, "hello")
        postgres.stop()
        try:
            assert_unavailable(api, id)
            refused = api.http.get(f"/sessions/{id}")
            assert error_type(refused, 503) == "session_store_unavailable"
            assert "fish" not in refused.text  # of the password
        finally:
            postgres.start()
        wait_until(lambda: works(api, id))
        log = api.log(id)
        assert log[:13] == copied("hello")
        assert log[-13:] == copied("again")


def test_a_server_starts_without_postgres(tmp_path: Path) -> None:
    with thread(f"postgresql://somebody:secret@/nowhere?host={tmp_path}") as (_, api):
        assert_unavailable(api, "ses-" + "0" * 32)
        assert "secret" not in api.http.post("/sessions").text


def test_a_turn_ends_with_an_error_when_postgres_stops(
    postgres: PostgresServer, gate: Gate
) -> None:
    with thread(postgres.new_place()) as (live, api):
        id = api.create()
        n_steps = 0

        def take_time(batch: RaggedBatch) -> None:
            """There is something to commit when it stops, however long it takes to."""
            nonlocal n_steps
            n_steps += 1
            time.sleep(0.01)
            if n_steps == 60:
                gate(batch)

        live.model.decoder.before_extend = take_time
        text = TEXT * 4
        got = ""
        with api.stream(id, text) as stream:
            got += next(stream)["text"]
            postgres.stop()
            gate.open()
            try:
                for event in stream:
                    if "error" in event:
                        assert event["error"]["type"] == "session_store_unavailable"
                        break
                    got += event["text"]
                else:
                    pytest.fail("the turn did not end with an error")
                assert_served(api)
            finally:
                postgres.start()
        live.model.decoder.before_extend = lambda _: None
        wait_until(lambda: is_free(api, id), 40)
        kept = bytes(api.log(id)[len(text) + 2 :])
        assert kept.startswith(got.encode())
        assert text.encode().startswith(kept)
        assert works(api, id)


def is_free(api: SessionClient, id: str) -> bool:
    response = api.http.get(f"/sessions/{id}")
    return response.status_code == 200 and not response.json()["busy"]
