"""Programs that need limits of their own: a file system that is full, or read-only.

The limit on the size of a file is real: the kernel refuses the write, in the middle of a commit.
"""

import asyncio
import logging
import resource
import sys
from pathlib import Path

import pytest

from causalrn.server.errors import StoreUnavailableError
from causalrn.server.sessions.store.base import Append, SessionStore
from causalrn.server.sessions.store.open_store import open_store
from tests.server.sessions.store.stores import NO_LIMIT, log_of, opened, record


async def full(path: Path) -> None:
    """Append until the disk is full, read, make room, and go on."""
    async with opened(str(path)) as store:
        new, idle = record(), record()
        for one in (new, idle):
            await store.create(one, [], NO_LIMIT)
        await store.begin(new.id, 0, [])
        log: list[int] = []
        for room in (0, 1, 5000, 100_000):
            _limit(max(found.stat().st_size for found in path.parent.iterdir()) + room)
            while await _append(store, new.id, log, 100):
                pass
            for _ in range(3):
                assert not await _append(store, new.id, log, 100)
                assert await log_of(store, new.id) == log
                assert (await store.get(new.id)).busy
            with pytest.raises(StoreUnavailableError, match="disk"):
                await store.create(record(), range(5000), NO_LIMIT)
            with pytest.raises(StoreUnavailableError, match="disk"):
                await store.begin(idle.id, 0, range(5000))
            assert not (await store.get(idle.id)).busy
            _limit(resource.RLIM_INFINITY)
            assert await _append(store, new.id, log, 100)
            assert await log_of(store, new.id) == log
            assert await store.count() == 2
    async with opened(str(path)) as store:
        assert await log_of(store, new.id) == log
    n_files = len(list(path.parent.iterdir()))
    _limit(0)
    other_store = open_store(str(path.with_name("new.db")), lease_seconds=60)
    with pytest.raises(StoreUnavailableError):
        await other_store.open()
    _limit(resource.RLIM_INFINITY)
    assert len(list(path.parent.iterdir())) <= n_files + 1  # nothing half made but the lock
    await other_store.create(new, [1], NO_LIMIT)
    await other_store.close()


async def _append(store: SessionStore, id: str, log: list[int], n: int) -> bool:
    token_ids = list(range(len(log), len(log) + n))
    try:
        assert await store.append([Append(id, len(log), token_ids, done=False)]) == [None]
    except StoreUnavailableError:
        return False
    log += token_ids
    return True


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def read_only(path: Path) -> None:
    """Have the file and then its folder made read-only, and writable again."""
    async with opened(str(path)) as store:
        new = record()
        await store.create(new, [1], NO_LIMIT)
    for place, modes in ((path, (0o400, 0o600)), (path.parent, (0o500, 0o700))):
        place.chmod(modes[0])
        store = open_store(str(path), lease_seconds=60)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"read-only|Permission denied"):
                await store.begin(new.id, 1, [2])
        place.chmod(modes[1])
        await store.replace(new, [1])
        assert await log_of(store, new.id) == [1]
        await store.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run({"full": full, "read_only": read_only}[sys.argv[1]](Path(sys.argv[2])))
