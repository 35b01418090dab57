"""Whose a session is; and stores that an earlier version made, when sessions were nobody's."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from server.errors import TooManySessionsError
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    added,
    assert_refused,
    end,
    in_loop,
    log_of,
    opened,
    record,
)


@in_loop
async def test_a_session_keeps_its_owner(url: str) -> None:
    mine, nobodys = record(owner="alice"), record()
    async with opened(url) as store:
        await store.create(mine, [1], NO_LIMIT)
        await store.create(nobodys, [2], NO_LIMIT)
        await store.begin(mine.id, 1, [5])
        await end(store, mine.id, 2, 6)
        await store.replace(replace(mine, owner="mallory"), [7])
    async with opened(url) as store:
        assert (await store.get(mine.id)).owner == "alice"
        assert (await store.read(mine.id))[0].owner == "alice"
        assert [one.owner for one in await store.list(None, 10)] == ["alice", ""]


@in_loop
async def test_the_sessions_of_one_owner(url: str) -> None:
    names = ["alice", "bob", "", "alice", "o'hara; --", "alice"]
    async with opened(url) as store:
        ids = []
        for name in names:
            new = record(owner=name)
            ids.append(new.id)
            await store.create(new, [], NO_LIMIT)
        expired = record(owner="alice", used_at=0.0)
        await store.create(expired, [], NO_LIMIT)
        for name in {*names, "nobody"}:
            own = [id for id, owner in zip(ids, names, strict=True) if owner == name]
            assert [one.id for one in await store.list(None, 10, owner=name)] == own
            assert await store.count(name) == len(own)
        assert [one.id for one in await store.list(ids[0], 1, "alice")] == [ids[3]]
        assert len(await store.list(None, 10)) == await store.count() == 6


@in_loop
async def test_the_limit_of_an_owner(url: str) -> None:
    async with opened(url) as store:
        for _ in range(2):
            await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)
        with pytest.raises(TooManySessionsError, match="the key 'alice' has 2 sessions"):
            await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)
        await store.create(record(owner="bob"), [], NO_LIMIT, owner_limit=2)
        with pytest.raises(TooManySessionsError, match="there are 3 sessions"):
            await store.create(record(owner="bob"), [], limit=3, owner_limit=2)
        await store.delete((await store.list(None, 1, "alice"))[0].id)
        await store.create(record(owner="alice"), [], NO_LIMIT, owner_limit=2)


@in_loop
async def test_a_race_for_an_owners_last_places(url: str) -> None:
    async with opened(url) as store:
        results = await asyncio.gather(
            *(store.create(record(owner="a"), [1], NO_LIMIT, owner_limit=5) for _ in range(20)),
            return_exceptions=True,
        )
        assert results.count(None) == await store.count("a") == 5
        assert sum(isinstance(result, TooManySessionsError) for result in results) == 15


# The tables of version 1, as that version made them.
SQLITE_1 = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1129467475;
PRAGMA user_version = 1;
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    n_tokens INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    ttl REAL NOT NULL,
    expires_at REAL NOT NULL -- later than used_at + ttl while a turn needs it
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE TABLE blocks (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    ids BLOB NOT NULL CHECK (typeof(ids) = 'blob'),
    PRIMARY KEY (session, number)
);
"""
POSTGRES_1 = """
CREATE TABLE causalrn_schema (version integer NOT NULL);
INSERT INTO causalrn_schema VALUES (1);
CREATE TABLE causalrn_sessions (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    model text NOT NULL,
    fingerprint text NOT NULL,
    n_tokens bigint NOT NULL,
    crc bigint NOT NULL,
    created_at double precision NOT NULL,
    used_at double precision NOT NULL,
    ttl double precision NOT NULL,
    expires_at double precision NOT NULL, -- later than used_at + ttl while a turn needs it
    owner uuid, -- of the turn that has it
    lease_until double precision
) WITH (fillfactor = 80); -- room for new versions of a row beside the old one
CREATE INDEX ON causalrn_sessions (expires_at);
CREATE TABLE causalrn_blocks (
    session bigint NOT NULL REFERENCES causalrn_sessions (key) ON DELETE CASCADE,
    number integer NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (session, number)
) WITH (fillfactor = 80);
"""
OLD_ID = "ses-" + "0" * 32
# Of the log [7, 8]: two tokens of four bytes, and their checksum.
OLD_ROW = (
    f"('{OLD_ID}', 'copy-bytes', '5e', 2, 2857631391, 4000000000, 4000000000, 3600, 4000003600)"
)
OLD_COLUMNS = "(id, model, fingerprint, n_tokens, crc, created_at, used_at, ttl, expires_at)"


async def check_migrated(url: str) -> None:
    """The old session is there, is nobody's, and is as good as a new one."""
    for start in (2, 4):  # the second time, there is nothing to migrate
        async with opened(url) as store:
            assert (await store.get(OLD_ID)).owner == ""
            assert await store.count("") == 1
            await store.begin(OLD_ID, start, [9])
            await end(store, OLD_ID, start + 1, 10)
            await added(store)
            new = record(owner="alice")
            await store.create(new, [1], NO_LIMIT)
            assert (await store.list(None, 1, "alice"))[0].owner == "alice"
            assert await log_of(store, OLD_ID) == [7, 8, *[9, 10] * (start // 2)]
            for one in await store.list(OLD_ID, 10):
                await store.delete(one.id)


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SQLITE_1)
        db.execute(f"INSERT INTO sessions {OLD_COLUMNS} VALUES {OLD_ROW}")
        db.execute("INSERT INTO blocks VALUES (1, 0, x'0700000008000000')")
        db.commit()
    return path


@in_loop
async def test_a_file_of_version_1_is_brought_up_to_date(old_file: Path) -> None:
    await check_migrated(str(old_file))
    with closing(sqlite3.connect(old_file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@in_loop
async def test_a_file_is_brought_up_to_date_as_a_whole_or_not_at_all(old_file: Path) -> None:
    with closing(sqlite3.connect(old_file)) as db:
        db.execute("CREATE INDEX sessions_by_owner ON sessions (model)")  # is in the way
    await assert_refused(str(old_file), "sessions_by_owner already exists")
    with closing(sqlite3.connect(old_file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "belongs_to" not in str(db.execute("SELECT sql FROM sqlite_schema").fetchall())
        db.execute("DROP INDEX sessions_by_owner")
    await check_migrated(str(old_file))


@in_loop
async def test_tables_of_version_1_are_brought_up_to_date(postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
        await admin.execute(POSTGRES_1)
        await admin.execute(f"INSERT INTO causalrn_sessions {OLD_COLUMNS} VALUES {OLD_ROW}")
        await admin.execute(r"INSERT INTO causalrn_blocks VALUES (1, 0, '\x0700000008000000')")
    await check_migrated(postgres_url)
    async with await psycopg.AsyncConnection.connect(postgres_url) as admin:
        cursor = await admin.execute("SELECT version FROM causalrn_schema")
        assert await cursor.fetchall() == [(2,)]
