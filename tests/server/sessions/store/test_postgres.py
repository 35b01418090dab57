"""What a PostgreSQL store makes of its URL, and of a server that is not what it should be."""

import asyncio
import time
from pathlib import Path

import psycopg
import pytest

from causalrn.server.errors import SessionDamagedError, StartupError, StoreUnavailableError
from causalrn.server.sessions.store.open_store import open_store
from causalrn.server.sessions.store.postgres_connections import PostgresConnections
from tests.server.in_loop import in_loop
from tests.server.sessions.store.postgres_server import QUOTED_PASSWORD, PostgresServer
from tests.server.sessions.store.stores import added, log_of, opened, told, until_works


@in_loop
async def test_a_read_only_server_can_be_read(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(postgres_url) as store:
        id = await added(store, 1)
        schema = postgres_url.rpartition("%3D")[2]
        caplog.clear()
        set_default = "ALTER DATABASE postgres SET default_transaction_read_only ="
        await asyncio.to_thread(postgres.execute, f"{set_default} on")
        await store._connections.close_idle()  # type: ignore[attr-defined]
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="PostgreSQL is read-only"):
                await store.begin(id, 1, [2])
            assert await log_of(store, id) == [1]
        writable = postgres_url.replace(schema, f"{schema}%20-cdefault_transaction_read_only%3Doff")
        async with await psycopg.AsyncConnection.connect(writable, autocommit=True) as admin:
            await admin.execute(f"{set_default} off".encode())
        await until_works(lambda: store.begin(id, 1, [2]))
        assert told(caplog) == ["ERROR", "INFO"]


@in_loop
async def test_a_wrong_password_and_a_missing_database(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for old, new, why in (
        (QUOTED_PASSWORD, "wr0ng", "password authentication failed"),
        ("/postgres?", "/nothing?", 'database "nothing" does not exist'),
        (":fish", "nobody:fish", "password authentication failed"),
    ):
        caplog.clear()
        store = open_store(postgres_url.replace(old, new), lease_seconds=60)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="PostgreSQL cannot be reached") as told:
                await store.open()
            assert new not in str(told.value)
        assert why in caplog.text
        assert "wr0ng" not in caplog.text
        await store.close()


@in_loop
async def test_tables_of_another_version_are_refused(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await added(store, 1)
    async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
        await admin.execute("UPDATE causalrn_schema SET version = 4")
    with pytest.raises(StoreUnavailableError, match="version 4, and this server knows versions"):
        await store.open()
    async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
        await admin.execute("UPDATE causalrn_schema SET version = 3")
    await store.open()
    assert await store.count() == 1
    async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
        await admin.execute("DROP TABLE causalrn_blocks")
    with pytest.raises(StoreUnavailableError, match="tables in PostgreSQL are missing"):
        await added(store, 1)
    assert await store.count() == 1
    await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        r"UPDATE causalrn_blocks SET ids = set_byte(ids, 77, get_byte(ids, 77) # 1)",
        "DELETE FROM causalrn_blocks WHERE number = 1",
        "UPDATE causalrn_sessions SET n_tokens = n_tokens - 1",
        "UPDATE causalrn_sessions SET crc = crc + 1",
    ],
)
@in_loop
async def test_a_damaged_log_is_reported_and_can_be_deleted(
    postgres_url: str, statement: str
) -> None:
    async with opened(postgres_url) as store:
        id = await added(store, *range(700))
        async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
            await admin.execute(statement.encode())
        with pytest.raises(SessionDamagedError):
            await store.read(id)
        await store.delete(id)


@in_loop
async def test_clocks_that_differ_are_told_in_the_log(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres_url) as store:
        assert "clocks" not in caplog.text
        real = time.time
        monkeypatch.setattr(
            "causalrn.server.sessions.store.postgres_schema.time.time", lambda: real() + 60
        )
        await store.open()
        assert "differ by 60 s" in caplog.text


@in_loop
async def test_ids_are_sorted_by_their_bytes_whatever_the_language(postgres_url: str) -> None:
    query = (
        "SELECT collation_name FROM information_schema.columns WHERE column_name = 'id' AND "
        "table_name = 'causalrn_sessions' AND table_schema = current_schema()"
    )
    async with (
        opened(postgres_url),
        await psycopg.AsyncConnection.connect(postgres_url) as admin,
    ):
        assert await (await admin.execute(query)).fetchall() == [("C",)]


@in_loop
async def test_commits_are_durable_whatever_the_server_is_set_to(postgres_url: str) -> None:
    for setting, expected in (("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")):
        url = f"{postgres_url}%20-csynchronous_commit%3D{setting}"
        connections = PostgresConnections(url, answer_seconds=5)
        async with connections.transaction() as db:
            cursor = await db.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == (expected,)
        await connections.close_idle()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3@cret@host/db",
        "postgresql://u:s3/cret@host/db",
        "postgresql://u:s3%cret@host/db",
        "postgresql://u:x@host:s3cret/db",
        "postgresql://u@host/db?s3cret=1",
        "postgresql://u@host/db?password=s3 cret",
    ],
)
def test_urls_that_are_no_urls(url: str) -> None:
    with pytest.raises(StartupError, match="CAUSALRN_SESSION_STORE") as told:
        open_store(url, lease_seconds=60)
    assert "s3" not in str(told.value)
    assert told.value.__cause__ is told.value.__context__ is None


def test_what_libpq_makes_of_a_url_with_a_password(tmp_path: Path) -> None:
    connections = PostgresConnections(
        f"postgresql://u:a%40b@/db?host={tmp_path}&port=5433", answer_seconds=5
    )
    assert connections.redact("no a@b here") == "no … here"
