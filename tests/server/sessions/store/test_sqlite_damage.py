"""Files that are no store's, or are damaged: told from the sound ones, and left as they are."""

# ruff: noqa: ASYNC240 - nobody else is in the event loop

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from causalrn.server.errors import ServiceError, SessionDamagedError, StoreUnavailableError
from causalrn.server.sessions.store.open_store import open_store
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import NO_LIMIT, assert_refused, log_of, opened, record

LOGS = [[100_000 * i + n for n in range(5000)] for i in range(1, 4)]
IDS = [f"ses-{i:032x}" for i in range(len(LOGS))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of three sessions, to be copied."""
    path = tmp_path_factory.mktemp("master") / "sessions.db"

    async def fill() -> None:
        async with opened(str(path)) as store:
            for id, token_ids in zip(IDS, LOGS, strict=True):
                await store.create(record(id=id), token_ids, NO_LIMIT)

    asyncio.run(fill())
    assert sorted(found.name for found in path.parent.iterdir() if found.stat().st_size) == [
        "sessions.db",
        "sessions.db.lock",
        "sessions.db.reserve",
    ]
    return path


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before


@in_loop
async def test_files_of_others_are_left_alone(path: Path, master: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)
    with unchanged(path):
        await assert_refused(str(path), "not a SQLite database")
    path.write_bytes(b"SQLite format 3\0")
    with unchanged(path):
        await assert_refused(str(path), "another application")
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE sessions (id)")
    with unchanged(path):
        await assert_refused(str(path), "another application")
    shutil.copy(master, path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 4")
    with unchanged(path):
        await assert_refused(str(path), "has version 4, and this server knows versions up to 3")


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (0, b"\0", "its beginning is damaged"),
        (16, b"\xff\xff", "its file is damaged"),  # the page size
        (70, b"\0", "another application"),
        (100, b"\0" * 200, "its file is damaged"),  # the table of tables
    ],
)
@in_loop
async def test_a_file_with_a_damaged_beginning_is_refused_and_not_touched(
    path: Path, master: Path, at: int, data: bytes, reason: str
) -> None:
    content = master.read_bytes()
    path.write_bytes(content[:at] + data + content[at + len(data) :])
    with unchanged(path):
        await assert_refused(str(path), reason)


@pytest.mark.parametrize("size", [50, 4096, 20_480, -4096])
@in_loop
async def test_a_truncated_file_is_refused_and_not_touched(
    path: Path, master: Path, size: int
) -> None:
    path.write_bytes(master.read_bytes()[:size])
    with unchanged(path):
        await assert_refused(str(path), "damaged|another application")


@in_loop
async def test_a_flipped_byte_of_a_log(path: Path, master: Path) -> None:
    content = bytearray(master.read_bytes())
    token = LOGS[1][2345].to_bytes(4, "little")
    assert content.count(token) == 1
    content[content.index(token)] ^= 1
    path.write_bytes(content)
    with unchanged(path):
        async with opened(str(path)) as store:
            for _ in range(2):
                with pytest.raises(SessionDamagedError, match="delete the session"):
                    await store.read(IDS[1])
            assert await log_of(store, IDS[0]) == LOGS[0]
            assert await log_of(store, IDS[2]) == LOGS[2]
    async with opened(str(path)) as store:
        await store.delete(IDS[1])
        assert await store.count() == 2


@in_loop
async def test_a_damaged_middle(path: Path, master: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(master.read_bytes())
    middle = content.index(LOGS[1][2345].to_bytes(4, "little")) // 4096 * 4096
    content[middle : middle + 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(content)
    with unchanged(path):
        async with opened(str(path)) as store:
            for _ in range(5):
                with pytest.raises(StoreUnavailableError, match="its file is damaged; restore"):
                    await store.read(IDS[1])
                assert await log_of(store, IDS[0]) == LOGS[0]
                assert await log_of(store, IDS[2]) == LOGS[2]
            results = await asyncio.gather(  # in one transaction
                *(store.read(id) for id in IDS), return_exceptions=True
            )
            assert [type(result) for result in results] == [tuple, StoreUnavailableError, tuple]
    assert [line.levelname for line in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text


@in_loop
async def test_damage_anywhere_is_never_taken_for_a_log(tmp_path: Path, master: Path) -> None:
    content, chance = master.read_bytes(), random.Random(2)
    n_refused = 0
    for case in range(120):
        damaged = bytearray(content)
        at = chance.randrange(len(content)) if case % 2 else chance.randrange(3 * 4096)
        for offset in range(at, min(at + chance.choice([1, 8, 300]), len(content))):
            damaged[offset] = chance.randrange(256)
        path = tmp_path / f"{case}.db"
        path.write_bytes(damaged)
        store = open_store(str(path), lease_seconds=60)
        for id, token_ids in zip(IDS, LOGS, strict=True):
            try:
                assert await log_of(store, id) == token_ids
            except ServiceError:
                n_refused += 1
        await store.close()
    assert n_refused > 50
