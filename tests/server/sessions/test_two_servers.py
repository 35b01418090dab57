"""Sessions that several servers share."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.server.conftest import Gate
from tests.server.session_client import copied, error_type
from tests.server.sessions.servers import TEXT, thread
from tests.server.sessions.store.postgres_server import PostgresServer
from tests.server.steps import AtStep

TURNS = ["one turn", "another turn, which is longer", "x" * 40, "the last"]


def test_a_session_moves_from_server_to_server(postgres: PostgresServer) -> None:
    place = postgres.new_place()
    with thread(place) as (_, first), thread(place) as (_, second):
        alone, moving = first.create(), first.create()
        for i, text in enumerate(TURNS * 2):
            wanted = first.turn(alone, text)
            found = (first, second)[i % 2].turn(moving, text)
            assert found["token_ids"] == wanted["token_ids"]
            assert found["usage"]["prompt_tokens"] == wanted["usage"]["prompt_tokens"]
            assert second.get(moving)["n_tokens"] == found["session"]["n_tokens"]
        assert second.log(moving) == first.log(alone)
        # What the first has in memory is old, and of no use to a snapshot or to a fork.
        second.turn(moving, "news")
        child = first.fork(moving)
        assert first.turn(child, "hello")["text"] == "hello"
        assert first.log(child) == second.log(moving) + copied("hello")
        other = second.restore("ses-" + "1" * 32, first.save(moving)).json()
        assert other["n_tokens"] == len(first.log(moving))
        second.delete(moving)
        assert error_type(first.post(moving, "hello"), 404) == "session_not_found"


def test_turns_of_two_servers_never_mix(postgres: PostgresServer) -> None:
    place = postgres.new_place()
    with ExitStack() as stack:
        servers = [stack.enter_context(thread(place)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        for live, _ in servers:
            live.model.decoder.before_extend = lambda _: time.sleep(0.005)
        id = servers[0][1].create()
        told = [
            pool.submit(servers[i % 2][1].post, id, f"text {i} " * 4) for i in range(6)
        ]  # fmt: skip
        answers = [future.result(30) for future in told]
        won = [one.json()["text"] for one in answers if one.status_code == 200]
        assert won
        for one in answers:
            assert one.status_code == 200 or error_type(one, 409) == "session_busy"
        waited = [
            pool.submit(servers[i % 2][1].turn, id, f"next {i}", wait_for_session=True)
            for i in range(6)
        ]
        assert [one.result(30)["text"] for one in waited] == [f"next {i}" for i in range(6)]
        log = servers[1][1].log(id)
        # One whole turn after the other.
        assert log.count(256) == len(won) + 6
        texts = [bytes(part[: part.index(257)]).decode() for part in split(log, 256)]
        assert sorted(texts) == sorted(won + [f"next {i}" for i in range(6)])
        assert log == [token_id for text in texts for token_id in copied(text)]


def test_a_turn_whose_session_another_server_took_ends_with_an_error(
    postgres: PostgresServer, gate: Gate
) -> None:
    place = postgres.new_place()
    schema = place.rpartition("%3D")[2]
    with thread(place) as (live, first), thread(place) as (_, second):
        id = first.create()
        live.model.decoder.before_extend = AtStep(4, gate)
        with first.stream(id, TEXT) as stream:
            got = next(stream)["text"]
            assert gate.reached.wait(10)
            while True:  # as if the first had been away for longer than its lease
                postgres.execute(f"UPDATE {schema}.causalrn_sessions SET lease_until = 0")
                taken = second.post(id, "taken")
                if taken.status_code == 200:
                    break
                assert error_type(taken, 409) == "session_busy"
            gate.open()
            *more, last = stream
        assert last["error"]["type"] == "session_taken"
        kept = (got + "".join(event["text"] for event in more)).encode()
        assert first.log(id) == [256, *TEXT.encode(), 257, *kept, *copied("taken")]
        assert first.turn(id, "back", wait_for_session=True)["text"] == "back"


def split(log: list[int], at: int) -> list[list[int]]:
    parts: list[list[int]] = []
    for token_id in log:
        if token_id == at:
            parts.append([])
        else:
            parts[-1].append(token_id)
    return parts
