import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from causalrn.server.engine.engine import Engine
from causalrn.server.engine.turnstile import Turnstile
from causalrn.server.errors import NotReadyError
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.in_loop import in_loop
from tests.server.steps import die


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_engines_that_wait_pass_in_order() -> None:
    turnstile = Turnstile()
    assert (turnstile.holder, turnstile.seconds_held()) == (None, 0)
    order: list[str | None] = []

    def pass_through(name: str) -> None:
        turnstile.enter(name)
        order.append(turnstile.holder)
        turnstile.leave()

    turnstile.enter("first")
    names = [f"number {i}" for i in range(8)]
    threads = [threading.Thread(target=pass_through, args=(name,)) for name in names]
    for i, thread in enumerate(threads):
        thread.start()
        until(lambda n=i + 1: turnstile.n_waiting == n)  # type: ignore[misc]
    assert (turnstile.holder, order) == ("first", [])
    assert turnstile.seconds_held() > 0
    turnstile.leave()
    for thread in threads:
        thread.join(20)
    assert order == names
    assert (turnstile.holder, turnstile.n_waiting) == (None, 0)


def test_an_engine_that_comes_back_goes_to_the_end() -> None:
    turnstile = Turnstile()
    order = []

    def pass_twice(name: str, others: int) -> None:
        for _ in range(2):
            turnstile.enter(name)
            order.append(name)
            until(lambda: turnstile.n_waiting >= others or len(order) > 2)
            turnstile.leave()

    threads = [threading.Thread(target=pass_twice, args=(name, 1)) for name in "ab"]
    for thread in threads:
        thread.start()
        until(lambda: bool(order))
    for thread in threads:
        thread.join(20)
    assert order == ["a", "b", "a", "b"]


def test_two_busy_engines_make_their_steps_by_turns() -> None:
    async def main() -> list[str]:
        turnstile, order, both_asked = Turnstile(), [], threading.Event()
        models = [FakeModel(name="a"), FakeModel(name="b")]
        engines = [Engine(model, make_settings(), turnstile) for model in models]
        for i in range(2):

            def note(_: object, i: int = i) -> None:
                assert both_asked.wait(20)
                order.append(models[i].name)
                # The other one has been slow to ask, but not to work.
                until(lambda: turnstile.n_waiting > 0 or not engines[1 - i].n_streams)

            models[i].decoder.before_extend = note
            engines[i].start()
        streams = [engine.submit("x" * 40) for engine in engines]
        both_asked.set()

        async def read(i: int) -> str:
            async with streams[i]:
                return "".join([delta.text async for delta in streams[i]])

        assert list(await asyncio.gather(read(0), read(1))) == ["x" * 40] * 2
        for engine, model in zip(engines, models, strict=True):
            await engine.stop()
            assert model.decoder.misuses == []
        return order

    order = "".join(asyncio.run(main()))
    assert order.count("a") == order.count("b") > 40
    assert order in ("ab" * (len(order) // 2), "ba" * (len(order) // 2))


@in_loop
async def test_an_engine_that_waits_for_its_turn_is_not_stuck() -> None:
    turnstile = Turnstile()
    engine = Engine(FakeModel(), make_settings(stall_seconds=1), turnstile)
    engine.start()
    turnstile.enter("another")
    async with engine.submit("hello") as stream:
        while not turnstile.n_waiting:  # noqa: ASYNC110  # for another thread
            await asyncio.sleep(0.001)
        for _ in range(30):  # longer than a stall; all the while, others make steps
            turnstile.moved = time.monotonic()
            engine.check_ready()
            await asyncio.sleep(0.05)
        turnstile.moved -= 5000  # as if the other one's step had taken so long
        with pytest.raises(NotReadyError, match="fake-copy has work, but made no step"):
            engine.check_ready()
        turnstile.leave()
        assert "".join([delta.text async for delta in stream]) == "hello"
        engine.check_ready()
    await engine.stop()


@in_loop
async def test_a_step_that_fails_lets_others_pass() -> None:
    turnstile, model = Turnstile(), FakeModel()

    engine = Engine(model, make_settings(), turnstile)
    model.decoder.before_extend = die
    engine.start()
    async with engine.submit("hello") as stream:
        with pytest.raises(Exception, match="died"):
            await anext(stream)
    assert turnstile.holder is None
    await engine.stop()
