import asyncio

import pytest

from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.token_stream import TokenStream
from tests.server.in_loop import in_loop


def make() -> tuple[TokenStream, list[str]]:
    aborted: list[str] = []
    return TokenStream("a", 5, aborted.append), aborted


@in_loop
async def test_a_reader_that_lags_gets_one_delta() -> None:
    stream, _ = make()
    for delta in (Delta([1], "a"), Delta([2], ""), Delta([3], "bc", "length")):
        stream.push(delta)
    assert [delta async for delta in stream] == [Delta([1, 2, 3], "abc", "length")]
    assert stream.n_completion_tokens == 3


@in_loop
async def test_a_reader_that_keeps_up_gets_every_delta() -> None:
    stream, _ = make()
    deltas = [Delta([1], "a"), Delta([2], "b"), Delta([], "", "stop")]

    async def read() -> list[Delta]:
        return [delta async for delta in stream]

    reading = asyncio.create_task(read())
    for delta in deltas:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stream.push(delta)
    assert await reading == deltas


@in_loop
async def test_what_is_held_back_is_seen_when_the_reader_is_woken_or_at_the_end() -> None:
    stream, _ = make()
    stream.push(Delta([1], "a"))
    assert await anext(stream) == Delta([1], "a")
    for end in (stream.wake, lambda: stream.push(Delta([4], "d", "length"))):
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        stream.push(Delta([2], "b"), wake=False)
        stream.push(Delta([3], "c"), wake=False)
        await asyncio.sleep(0.01)
        assert not reading.done()
        end()
        assert (await reading).text.startswith("bc")
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@in_loop
async def test_what_is_held_back_is_not_seen_by_a_reader_that_comes_later() -> None:
    stream, _ = make()
    stream.push(Delta([1], "a"))
    assert await anext(stream) == Delta([1], "a")
    stream.push(Delta([2], "b"), wake=False)
    reading = asyncio.ensure_future(anext(stream))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not reading.done()
    stream.wake()
    assert await reading == Delta([2], "b")


@in_loop
async def test_samples_are_not_mixed_up() -> None:
    stream = TokenStream("a", 5, lambda _: None, n_samples=2)
    for delta in (
        Delta([1], "a"),
        Delta([2], "x", index=1),
        Delta([3], "b", "length"),
        Delta([4], "y", "stop", index=1),
    ):
        assert not stream.is_complete
        stream.push(delta)
    assert stream.is_complete
    assert [delta async for delta in stream] == [
        Delta([1, 3], "ab", "length"),
        Delta([2, 4], "xy", "stop", index=1),
    ]


@in_loop
async def test_what_is_echoed_does_not_count_as_generated() -> None:
    stream, _ = make()
    stream.push(Delta([1, 2, 3], "abc", n_echoed=2))
    stream.push(Delta([4], "d", "length"))
    assert [delta async for delta in stream] == [Delta([1, 2, 3, 4], "abcd", "length", n_echoed=2)]
    assert stream.n_completion_tokens == 2


@in_loop
async def test_an_error_comes_after_what_was_made_before_it() -> None:
    stream, _ = make()
    stream.push(Delta([1], "a"))
    stream.fail(RuntimeError("broken"))
    assert await anext(stream) == Delta([1], "a")
    with pytest.raises(RuntimeError, match="broken"):
        await anext(stream)


@in_loop
async def test_leaving_a_stream_aborts_its_request() -> None:
    stream, aborted = make()
    with pytest.raises(ZeroDivisionError):
        async with stream:
            raise ZeroDivisionError
    assert aborted == ["a"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
