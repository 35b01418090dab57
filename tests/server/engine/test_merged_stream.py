import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.merged_stream import MergedStream
from causalrn.server.engine.token_stream import TokenStream
from causalrn.server.errors import EngineError


def run(test: Callable[[MergedStream, list[TokenStream]], Coroutine[Any, Any, None]]) -> list[str]:
    """Merge two streams of two samples; return the ids of those that were aborted."""
    aborted: list[str] = []

    async def main() -> None:
        streams = [TokenStream(id, 3, aborted.append, n_samples=2) for id in ("a", "b")]
        await asyncio.wait_for(test(MergedStream(streams), streams), 10)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    return aborted


def test_samples_are_numbered_through() -> None:
    async def test(merged: MergedStream, streams: list[TokenStream]) -> None:
        assert (merged.id, merged.n_samples, merged.n_prompt_tokens) == ("a", 4, 6)
        async with merged:
            for place, stream in enumerate(streams):
                for index in range(2):
                    stream.push(Delta([place, index], "x", "stop", index))
            found = {delta.index: delta.token_ids async for delta in merged}
        assert found == {0: [0, 0], 1: [0, 1], 2: [1, 0], 3: [1, 1]}
        assert merged.n_completion_tokens == 8

    assert run(test) == ["a", "b"]


def test_deltas_come_as_they_are_made() -> None:
    async def test(merged: MergedStream, streams: list[TokenStream]) -> None:
        async with merged:
            for place in (1, 0, 1):
                streams[place].push(Delta([place], "x"))
                assert (await anext(merged)).index == 2 * place

    run(test)


def test_a_reader_that_lags_gets_few_large_deltas() -> None:
    async def test(merged: MergedStream, streams: list[TokenStream]) -> None:
        async with merged:
            for token_id in range(100):
                for stream in streams:
                    stream.push(Delta([token_id], "x"))
                await asyncio.sleep(0)
            for stream in streams:
                stream.push(Delta([], "", "stop"))
                stream.push(Delta([], "", "stop", 1))
            deltas = [delta async for delta in merged]
        assert len(deltas) < 20
        for index in (0, 2):
            joined = Delta.join([delta for delta in deltas if delta.index == index])
            assert joined.token_ids == list(range(100))

    run(test)


def test_a_failure_of_one_stream_ends_all() -> None:
    async def test(merged: MergedStream, streams: list[TokenStream]) -> None:
        async with merged:
            streams[0].push(Delta([1], "x"))
            assert (await anext(merged)).token_ids == [1]
            streams[1].fail(EngineError("injected"))
            with pytest.raises(EngineError, match="injected"):
                await anext(merged)

    assert run(test) == ["a", "b"]


def test_leaving_closes_all_streams() -> None:
    async def test(merged: MergedStream, streams: list[TokenStream]) -> None:
        async with merged:
            for _ in range(3):
                for stream in streams:
                    stream.push(Delta([1], "x"))
                await asyncio.sleep(0)

    assert run(test) == ["a", "b"]
