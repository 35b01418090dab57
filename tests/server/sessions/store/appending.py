"""A program that appends to two sessions and is killed meanwhile.

For every line of its standard input it forks a child, which prints its process id, and then the
length of the logs after every commit. When the child is dead, `dead` is printed.
"""

import asyncio
import os
import random
import sys

from causalrn.server.errors import SessionNotFoundError
from causalrn.server.sessions.store.base import Append, SessionStore
from causalrn.server.sessions.store.open_store import open_store
from tests.server.sessions.store.stores import NO_LIMIT, record

IDS = ["ses-" + 32 * "a", "ses-" + 32 * "b"]


def token(place: int) -> int:
    """What belongs at a place of the logs."""
    return place * 2654435761 % 2**32


async def _length(store: SessionStore, id: str) -> int:
    try:
        return (await store.get(id)).n_tokens
    except SessionNotFoundError:
        await store.create(record(id=id), [], NO_LIMIT)
        return 0


async def _append(path: str) -> None:
    chance = random.Random(os.getpid())
    store = open_store(path, lease_seconds=60)
    lengths = [await _length(store, id) for id in IDS]
    n = max(lengths)
    for id, length in zip(IDS, lengths, strict=True):
        await store.begin(id, length, [token(place) for place in range(length, n)])
    _tell(n)
    while True:
        token_ids = [token(place) for place in range(n, n + chance.choice([1, 1, 1, 40, 700]))]
        appends = [Append(id, n, token_ids, done=False) for id in IDS]
        assert await store.append(appends) == [None, None]
        n += len(token_ids)
        _tell(n)


def _tell(word: object) -> None:
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _tell(os.getpid())
            asyncio.run(_append(sys.argv[1]))
        os.waitpid(pid, 0)
        _tell("dead")
