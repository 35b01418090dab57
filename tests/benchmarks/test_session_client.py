import asyncio
import json
from argparse import Namespace
from collections.abc import Iterator
from random import Random

import pytest

from benchmarks.crash_clients import ACTIONS, Client, Reference, Tally
from benchmarks.http_stream import Recording
from benchmarks.session_client import Part, RefusedError, SessionClient
from benchmarks.session_copies import EXACT, INEXACT, WRONG, Copier, Outcomes
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
NOTHING_HELD = {"running": 0, "waiting": 0, "pages_used": 0, "sessions": 0}


def part_of(*pieces: bytes) -> Part:
    """What a client makes of pieces that came at 0, 1, 2 … seconds."""

    async def read() -> Part:
        recording = Recording(b"")
        recording.began = -1.0
        recording.pieces = list(enumerate(pieces))
        return Part.of(recording)

    return asyncio.run(read())


def event(*token_ids: int, reason: str | None = None) -> bytes:
    values = {"token_ids": token_ids, "finish_reason": reason, "usage": {"cached_tokens": 3}}
    return f"data: {json.dumps(values)}\n\n".encode()


def test_a_stream_that_breaks_off_has_what_came_whole() -> None:
    part = part_of(STREAM, event(1, 2), event(3)[:-1])
    assert (part.accepted, part.token_ids, part.finish_reason) == (True, [1, 2], None)
    assert (part.began, part.first, part.last) == (-1, 1, 1)
    assert part_of(STREAM[:-2]).accepted is False
    assert part_of(STREAM).accepted is True
    assert part_of().accepted is False


def test_a_stream_that_ends_has_its_usage() -> None:
    part = part_of(STREAM, event(1), event(reason="stop"), b"data: [DONE]\n\n")
    assert (part.token_ids, part.finish_reason, part.last) == ([1], "stop", 2)
    assert part.usage == {"cached_tokens": 3}


@pytest.mark.parametrize("missing", [0, 1])
def test_an_answer_counts_only_if_it_came_whole(missing: int) -> None:
    body = b'{"token_ids":[1],"finish_reason":"length"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    part = part_of(head % len(body), body[: len(body) - missing])
    assert part.accepted is not bool(missing)
    assert part.token_ids == [1][missing:]


def test_errors_are_raised_as_refusals() -> None:
    with pytest.raises(RefusedError) as caught:
        part_of(b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\n{}")
    assert caught.value.status == 409
    with pytest.raises(RefusedError, match="engine_error"):
        part_of(STREAM, b'data: {"error":{"type":"engine_error"}}\n\n')


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with serve(FakeModel(), make_settings()) as live:
        yield live


def test_a_session_from_beginning_to_end(live: LiveServer) -> None:
    async def use() -> None:
        server = SessionClient(live.url)
        id = await server.create()
        first = await server.turn(id, [5, 6])
        assert (first.token_ids, first.session) == ([5, 6], {"id": id, "n_tokens": 7})
        again = await server.turn(id, [7], stream=False)
        assert (again.token_ids, again.usage["cached_tokens"]) == ([7], 6)
        child = await server.fork(id)
        other = f"ses-{1:032x}"
        await server.restore(other, await server.save(id))
        logs = [(await server.get(one))["token_ids"] for one in (id, child, other)]
        assert logs == [logs[0]] * 3
        assert sorted(one["id"] for one in await server.list()) == sorted([id, child, other])
        assert (await server.pages())["pages_used"] > 0
        assert await server.evictions() == 0
        await server.delete(child)
        with pytest.raises(RefusedError, match="session_not_found"):
            await server.get(child)
        assert await server.delete_all() == NOTHING_HELD

    asyncio.run(use())


def test_copies_are_judged(live: LiveServer) -> None:
    async def use() -> Outcomes:
        server = SessionClient(live.url)
        copier = Copier(server, live.model.config, Random(0), Outcomes())
        id = await server.create()
        await server.turn(id, copier.history(200), mode="raw", max_tokens=0)
        part = await copier.copy(id, 20)
        text = part.token_ids
        await copier.judge(id, [*text[:-1], 0], part)  # as if it had been asked for another text
        await server.turn(id, [1])
        await copier.judge(id, [*text[:-1], 0], part)  # which is not in the log
        await server.delete_all()
        return copier.outcomes

    outcomes = asyncio.run(use())
    assert outcomes.counts == {EXACT: 1, INEXACT: 1, WRONG: 1}
    assert len(outcomes.failures) == 1


def test_a_client_that_nobody_kills_makes_exact_copies(live: LiveServer) -> None:
    options = Namespace(turns=3, longest=20)

    async def use() -> Tally:
        server, tally = SessionClient(live.url), Tally()
        reference = Reference(FakeModel(), make_settings())
        client = Client(reference, tally, Random(0), options)
        for action in list(ACTIONS) * 4:
            await client.act(server, action)
        await client.go_on(server)
        for ledger in client.ledgers:
            assert ledger.reconcile((await server.get(ledger.id))["token_ids"]) == 0
        await server.delete_all()
        await reference.stop()
        return tally

    tally = asyncio.run(use())
    assert tally.failures == []
    assert tally.counts["exact copies"] == tally.counts["turns"] > 8
    assert all(tally.counts[action] for action in ACTIONS)
