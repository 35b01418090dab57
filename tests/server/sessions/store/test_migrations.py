"""Stores that an earlier version made, with a session in them, are brought up to this version."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from causalrn.server.errors import SessionBusyError, StoreUnavailableError
from causalrn.server.sessions.store.open_store import open_store
from tests.server.in_loop import in_loop
from tests.server.sessions.store.old_stores import (
    LEASE,
    OLD_COLUMNS,
    OLD_ID,
    OLD_ROW,
    POSTGRES,
    POSTGRES_2_STATEMENTS,
    SQLITE,
)
from tests.server.sessions.store.postgres_server import PostgresServer
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    added,
    assert_refused,
    end,
    log_of,
    opened,
    record,
)

VERSION = 3


async def check_migrated(url: str, owner: str) -> None:
    """The old session is there, is its owner's, and is as good as a new one."""
    for start in (2, 4):  # the second time, there is nothing to migrate
        async with opened(url) as store:
            assert (await store.get(OLD_ID)).owner == owner
            assert await store.count(owner) == 1
            await store.begin(OLD_ID, start, [9])
            await end(store, OLD_ID, start + 1, 10)
            await added(store)
            new = record(owner="bob")
            await store.create(new, [1], NO_LIMIT)
            assert (await store.list(None, 1, "bob"))[0].owner == "bob"
            assert await log_of(store, OLD_ID) == [7, 8, *[9, 10] * (start // 2)]
            for one in await store.list(OLD_ID, 10):
                await store.delete(one.id)


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture
def owner(version: int) -> str:
    """Of the old session; in version 1, sessions had none."""
    return "alice" if version > 1 else ""


@pytest.fixture
def old_file(version: int, tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SQLITE[version])
        db.execute(f"INSERT INTO sessions {OLD_COLUMNS} VALUES {OLD_ROW}")
        db.execute("INSERT INTO blocks VALUES (1, 0, x'0700000008000000')")
        if version > 1:
            db.execute("UPDATE sessions SET belongs_to = 'alice'")
        db.commit()
    return path


@pytest.fixture
def old_tables(version: int, postgres_url: str) -> str:
    with psycopg.connect(postgres_url) as db:
        make_old_tables(db, version)
    return postgres_url


def make_old_tables(db: psycopg.Connection[Any], version: int) -> None:
    db.execute(POSTGRES[version].encode())
    db.execute(f"INSERT INTO causalrn_sessions {OLD_COLUMNS} VALUES {OLD_ROW}".encode())
    db.execute(rb"INSERT INTO causalrn_blocks VALUES (1, 0, '\x0700000008000000')")
    if version > 1:
        db.execute("UPDATE causalrn_sessions SET belongs_to = 'alice'")


def shape_of_file(path: Path) -> object:
    """Every column and index of a file, without the text that made it."""
    with closing(sqlite3.connect(path)) as db:
        return [
            db.execute(f"PRAGMA {what}").fetchall()
            for what in (
                *("user_version", "table_info(sessions)", "table_info(blocks)"),
                *("index_xinfo(sessions_by_expiry)", "index_xinfo(sessions_by_owner)"),
            )
        ]


def shape_of_tables(url: str) -> object:
    """Every column and index of the tables in PostgreSQL, without names of indexes."""
    with psycopg.connect(url) as db:
        return (
            db.execute("SELECT version FROM causalrn_schema").fetchall(),
            db.execute(
                "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, "
                "column_default FROM information_schema.columns "
                "WHERE table_schema = current_schema() ORDER BY 1, 3"
            ).fetchall(),
            db.execute(
                "SELECT tablename, substring(indexdef FROM 'USING.*') FROM pg_indexes "
                "WHERE schemaname = current_schema() ORDER BY 1, 2"
            ).fetchall(),
        )


@in_loop
async def test_a_file_is_brought_up_to_date(old_file: Path, owner: str, tmp_path: Path) -> None:
    await check_migrated(str(old_file), owner)
    async with opened(str(tmp_path / "new.db")):
        assert shape_of_file(old_file) == shape_of_file(tmp_path / "new.db")
    with closing(sqlite3.connect(old_file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("version", [1], indirect=True)
@in_loop
async def test_a_file_is_brought_up_to_date_as_a_whole_or_not_at_all(
    old_file: Path, owner: str
) -> None:
    with closing(sqlite3.connect(old_file)) as db:
        db.execute("ALTER TABLE sessions ADD COLUMN owner TEXT")  # is in the way of the last step
    await assert_refused(str(old_file), "duplicate column name: owner")
    with closing(sqlite3.connect(old_file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "belongs_to" not in str(db.execute("SELECT sql FROM sqlite_schema").fetchall())
        db.execute("ALTER TABLE sessions DROP COLUMN owner")
    await check_migrated(str(old_file), owner)


@in_loop
async def test_tables_are_brought_up_to_date(
    old_tables: str, owner: str, postgres: PostgresServer
) -> None:
    await check_migrated(old_tables, owner)
    fresh = postgres.new_place()
    async with opened(fresh):
        assert shape_of_tables(old_tables) == shape_of_tables(fresh)


@pytest.mark.parametrize("version", [1], indirect=True)
@in_loop
async def test_tables_are_brought_up_to_date_as_a_whole_or_not_at_all(
    old_tables: str, owner: str
) -> None:
    with psycopg.connect(old_tables) as db:
        db.execute("ALTER TABLE causalrn_sessions ADD COLUMN lease text")  # is in the way
    before = shape_of_tables(old_tables)
    await assert_refused(old_tables, "PostgreSQL reports error 42701")
    assert shape_of_tables(old_tables) == before
    with psycopg.connect(old_tables) as db:
        db.execute("ALTER TABLE causalrn_sessions DROP COLUMN lease")
    await check_migrated(old_tables, owner)


@in_loop
async def test_servers_that_start_at_once_migrate_once(old_tables: str, owner: str) -> None:
    stores = [open_store(old_tables, lease_seconds=60) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    assert [(await store.get(OLD_ID)).owner for store in stores] == [owner] * 5
    await asyncio.gather(*(store.close() for store in stores))


@in_loop
async def test_a_lease_outlasts_the_migration(old_tables: str) -> None:
    with psycopg.connect(old_tables) as db:
        db.execute("UPDATE causalrn_sessions SET owner = %s, lease_until = 4e9", (LEASE,))
    async with opened(old_tables) as store:
        assert (await store.get(OLD_ID)).busy
        with pytest.raises(SessionBusyError):
            await store.begin(OLD_ID, 2, [9])
        with psycopg.connect(old_tables) as db:
            assert db.execute("SELECT lease::text FROM causalrn_sessions").fetchall() == [(LEASE,)]
            db.execute("UPDATE causalrn_sessions SET lease_until = 0")  # as if its time had come
        await store.begin(OLD_ID, 2, [9])
        await end(store, OLD_ID, 3)
        assert await log_of(store, OLD_ID) == [7, 8, 9]


@pytest.mark.parametrize("version", [2], indirect=True)
@in_loop
async def test_a_server_of_version_2_gets_errors_and_changes_nothing(old_tables: str) -> None:
    with psycopg.connect(old_tables) as db:
        db.execute("UPDATE causalrn_sessions SET owner = %s, lease_until = 4e9", (LEASE,))
    with psycopg.connect(old_tables, autocommit=True) as old_server:
        for statement, values in POSTGRES_2_STATEMENTS.values():
            with old_server.transaction(force_rollback=True):  # until then, all of it works
                old_server.execute(statement.encode(), values, prepare=True)
        async with opened(old_tables):
            pass
        before = rows_of(old_tables)
        for name, (statement, values) in POSTGRES_2_STATEMENTS.items():
            with pytest.raises(psycopg.Error) as refused:
                old_server.execute(statement.encode(), values, prepare=True)
            assert refused.value.sqlstate in ("42703", "42804", "42883"), name
        assert rows_of(old_tables) == before


def rows_of(url: str) -> object:
    with psycopg.connect(url) as db:
        return [
            db.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
            for table in ("causalrn_sessions", "causalrn_blocks")
        ]


@in_loop
async def test_a_server_whose_tables_a_later_version_changed_says_so(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        id = await added(store, 1)
        with psycopg.connect(postgres_url) as db:
            db.execute("ALTER TABLE causalrn_sessions RENAME COLUMN lease TO hold")
            db.execute("UPDATE causalrn_schema SET version = 4")
        for _ in range(2):
            with pytest.raises(
                StoreUnavailableError,
                match="another version of this program has changed its tables",
            ):
                await store.begin(id, 1, [2])
    await assert_refused(postgres_url, "version 4, and this server knows versions up to 3")
