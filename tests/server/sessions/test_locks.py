import asyncio
import contextlib

import pytest

from causalrn.server.errors import SessionBusyError
from causalrn.server.sessions.locks import SessionLocks
from tests.server.in_loop import in_loop


@in_loop
async def test_a_session_is_locked_by_one_request_at_a_time() -> None:
    locks = SessionLocks()
    await locks.acquire("a", wait=False, is_turn=True)
    assert "a" in locks
    with pytest.raises(SessionBusyError, match="session 'a' is busy") as refused:
        await locks.acquire("a", wait=False)
    assert refused.value.retry_after == 1
    await locks.acquire("b", wait=False)
    locks.release("a")
    assert "a" not in locks
    await locks.acquire("a", wait=False)


@in_loop
async def test_requests_that_wait_get_the_session_in_order() -> None:
    locks, order = SessionLocks(), []

    async def work(name: int) -> None:
        await locks.acquire("a", wait=True, is_turn=True)
        order.append(name)
        await asyncio.sleep(0)
        locks.release("a")

    await locks.acquire("a", wait=False, is_turn=True)
    tasks = []
    for name in range(5):
        tasks.append(asyncio.create_task(work(name)))
        await asyncio.sleep(0)
    locks.release("a")
    # Whoever comes now is not faster than those who wait.
    with pytest.raises(SessionBusyError):
        await locks.acquire("a", wait=False)
    tasks.append(asyncio.create_task(work(5)))
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4, 5]
    assert "a" not in locks


@in_loop
async def test_what_takes_a_moment_is_waited_for_but_no_turn() -> None:
    locks, order = SessionLocks(), []

    async def work(name: str, *, is_turn: bool = False) -> None:
        await locks.acquire("a", wait=False, is_turn=is_turn)
        order.append(name)
        await asyncio.sleep(0)
        locks.release("a")

    await locks.acquire("a", wait=False)
    tasks = [asyncio.create_task(work(name)) for name in ("fork", "save", "fork")]
    await asyncio.sleep(0)
    assert not locks.has_turn("a")
    turn = asyncio.create_task(work("turn", is_turn=True))
    await asyncio.sleep(0)
    assert locks.has_turn("a")
    with pytest.raises(SessionBusyError):  # the turn that waits may last
        await locks.acquire("a", wait=False)
    locks.release("a")
    await asyncio.gather(*tasks, turn)
    assert order == ["fork", "save", "fork", "turn"]
    assert "a" not in locks
    assert not locks.has_turn("a")


@pytest.mark.parametrize("n_turns", [0, 1, 2, 3])
def test_those_who_give_up_are_passed_over(n_turns: int) -> None:
    @in_loop
    async def test() -> None:
        locks = SessionLocks()
        await locks.acquire("a", wait=False)
        first = asyncio.create_task(locks.acquire("a", wait=True))
        second = asyncio.create_task(locks.acquire("a", wait=True))
        await asyncio.sleep(0)
        locks.release("a")
        for _ in range(n_turns):  # until it may just have been given the session
            await asyncio.sleep(0)
        has_it = first.done()
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        if has_it:
            locks.release("a")
        async with asyncio.timeout(5):
            await second
        locks.release("a")
        assert "a" not in locks

    test()
