"""What is special about a SQLite store: its file, its one server, its one thread."""

# ruff: noqa: ASYNC240 - nobody else is in the event loop

import asyncio
import logging
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from causalrn.server.errors import StartupError, StoreUnavailableError
from causalrn.server.sessions.store import steady_clock
from causalrn.server.sessions.store.base import Append
from causalrn.server.sessions.store.open_store import open_store
from causalrn.server.sessions.store.sqlite_file import SqliteFile
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import (
    NO_LIMIT,
    added,
    assert_missing,
    assert_refused,
    end,
    log_of,
    opened,
    record,
    until_works,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@in_loop
async def test_missing_folders_are_made_and_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "some where" / "?else#%41"
    async with opened(str(folder / "sessions.db")) as store:
        await added(store, 1)
        found = list(folder.iterdir())
        assert len(found) == 5  # the database, its lock and reserve, and SQLite's two
        assert {stat.S_IMODE(one.stat().st_mode) for one in found} == {0o600}


@in_loop
async def test_what_is_deleted_frees_the_disk(path: Path) -> None:
    async with opened(str(path)) as store:
        kept = await added(store, 1)
        for _ in range(10):
            await store.create(record(used_at=0.0), range(10_000), NO_LIMIT)
        await store.delete(await added(store, *range(10_000)))
        await store.close()
        full = path.stat().st_size
        await store.open()
        assert await store.sweep() == 10
        await store.close()
        assert full > 400_000
        assert path.stat().st_size < 100_000
        await store.open()
        assert await log_of(store, kept) == [1]


@in_loop
async def test_another_server_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with opened(str(path)) as store:
        id = await added(store, 1)
        other = open_store(str(link), lease_seconds=60)
        for _ in range(2):
            with pytest.raises(
                StartupError, match=rf"\(pid {os.getpid()}\).*PostgreSQL for several servers"
            ):
                await other.open()
        assert await log_of(store, id) == [1]
    await other.open()
    assert await log_of(other, id) == [1]
    await other.close()


@in_loop
async def test_sessions_keep_the_time_they_have_left_when_somebody_sets_the_clock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    stand_in = SimpleNamespace(time=lambda: time.time() + ahead, clock_gettime=time.clock_gettime)
    monkeypatch.setattr(steady_clock, "time", stand_in)
    async with opened(str(path)) as store:
        id, gone = await added(store, 1, ttl=3600), record(used_at=time.time() - 100, ttl=99)
        await store.create(gone, [1], NO_LIMIT)
        for ahead in (7 * 86_400.0, 0.0, -86_400.0, 30 * 86_400.0):
            before = await store.get(id)
            assert before.used_at - 1 < await store.now() < before.expires_at
            await store.sweep()  # follows the clock
            found = await store.get(id)
            assert await store.now() == pytest.approx(time.time() + ahead, abs=1)
            assert found.expires_at - await store.now() == pytest.approx(3600, abs=30)
            await assert_missing(store, gone.id)
    async with opened(str(path)) as store:  # by the new clock
        assert await log_of(store, id) == [1]


@pytest.mark.parametrize("moved", [False, True])
@in_loop
async def test_a_file_that_is_taken_away_is_missed(path: Path, tmp_path: Path, moved: bool) -> None:
    async with opened(str(path)) as store:
        id = await added(store, 1)
        path.rename(tmp_path / "backup.db")
        if moved:
            shutil.copy(tmp_path / "backup.db", path)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="removed or replaced"):
                await store.begin(id, 1, [2])
        assert path.exists() == moved
        path.unlink(missing_ok=True)
        (tmp_path / "backup.db").rename(path)
        await store.begin(id, 1, [2])
        assert await log_of(store, id) == [1, 2]


@in_loop
async def test_a_log_without_its_database_is_kept(path: Path, tmp_path: Path) -> None:
    async with opened(str(path)) as store:
        id = await added(store, 1)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for found in tmp_path.glob("sessions.db*"):
            shutil.copy(found, crashed)
    path = crashed / "sessions.db"
    elsewhere = path.rename(crashed / "elsewhere")
    await assert_refused(str(path), "missing or empty, but SQLite's log")
    path.touch()
    await assert_refused(str(path), "missing or empty, but SQLite's log")
    elsewhere.rename(path)
    async with opened(str(path)) as store:
        assert await log_of(store, id) == [1]


@in_loop
async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with opened(str(path)) as store:
        assert await log_of(store, await added(store, 1)) == [1]


@in_loop
async def test_a_folder_is_refused(tmp_path: Path) -> None:
    await assert_refused(str(tmp_path), "Is a directory")
    (tmp_path / "file").touch()
    await assert_refused(f"{tmp_path}/file/sessions.db", r"Not a directory|File exists")


@in_loop
async def test_the_event_loop_does_not_wait_for_the_database(path: Path) -> None:
    async with opened(str(path)) as store:
        id = await added(store, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as tool:
            tool.execute("BEGIN IMMEDIATE")
            begin = asyncio.create_task(store.begin(id, 1, [2]))
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not begin.done()
            tool.execute("ROLLBACK")
        await begin


def test_commits_are_on_the_disk(path: Path) -> None:
    # No test can cut the power, so this looks at what SQLite documents for it.
    file = SqliteFile(path)
    with closing(file.connect()) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    file.unlock()


@in_loop
async def test_a_copy_can_be_made_while_it_runs(path: Path, tmp_path: Path) -> None:
    async with opened(str(path)) as store:
        id = await added(store, 1)
        with (
            closing(sqlite3.connect(path)) as tool,
            closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
        ):
            tool.backup(copy)
        await store.begin(id, 1, [2])
        async with opened(str(tmp_path / "copy.db")) as other:
            assert await log_of(other, id) == [1]


@in_loop
async def test_a_lock_of_another_program(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalrn.server.sessions.store.sqlite_file._BUSY_SECONDS", 0.2)
    caplog.set_level(logging.INFO)
    async with opened(str(path)) as store:
        id, other = await added(store, 1), await added(store, 1)
        await store.begin(id, 1, [])
        with closing(sqlite3.connect(path, isolation_level=None)) as tool:
            tool.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="another program has locked"):
                    await store.append([Append(id, 1, [2], done=False)])
                assert await log_of(store, id) == [1]
            results = await asyncio.gather(
                store.get(id), store.renew([id]), store.read(id), return_exceptions=True
            )
            assert isinstance(results[1], StoreUnavailableError)
            assert not isinstance(results[0], Exception)
            assert not isinstance(results[2], Exception)
            started = time.monotonic()
            refused = await asyncio.gather(
                *(store.renew([id]) for _ in range(30)), return_exceptions=True
            )
            assert {type(error) for error in refused} == {StoreUnavailableError}
            assert time.monotonic() - started < 4  # they wait together, not one after another
            with pytest.raises(StoreUnavailableError):
                await store.begin(other, 1, [2])
            assert not (await store.get(other)).busy
            tool.execute("ROLLBACK")
        await until_works(lambda: end(store, id, 1, 2))
        await store.begin(other, 1, [2])
        assert await log_of(store, id) == [1, 2]
    assert [line.levelname for line in caplog.records] == ["ERROR", "INFO"]
    assert caplog.records[1].message.endswith("works again")
