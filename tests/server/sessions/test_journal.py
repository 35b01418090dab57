"""What is committed, and when readers get it."""

import asyncio
from pathlib import Path

from causalrn.server.errors import EngineError, SessionNotFoundError
from causalrn.server.sessions.store.base import SessionStore
from tests.server.in_loop import in_loop
from tests.server.session_client import EOS
from tests.server.sessions.journal_desk import Desk, FakeStore
from tests.server.sessions.store.stores import added, log_of, opened


@in_loop
async def test_what_is_written_is_committed_and_then_handed_over() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    turn = desk.open("a")
    seen = []
    desk.on_hand_over = lambda: seen.append((list(store.logs["a"]), turn.n_tokens, desk.freed[:]))
    desk.write("a", 1, 2)
    desk.write("a", 3)
    assert desk.handed_over == []
    await desk.flush()
    desk.write("a", finish_reason="stop", is_eos=True)
    await desk.flush()
    assert seen == [([1, 2, 3], 3, []), ([1, 2, 3, EOS], 4, [])]
    assert desk.token_ids("a") == [1, 2, 3]
    assert (store.done, desk.freed, desk.journal.turns) == (["a"], ["a"], [])


@in_loop
async def test_nothing_reaches_the_stream_while_a_commit_lasts() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.open("a")
    store.may_commit.clear()
    desk.write("a", 1)
    await store.waits.wait()
    for token_id in (2, 3, 4):
        desk.write("a", token_id)
        await asyncio.sleep(0)
    desk.write("a", 5, finish_reason="length")
    await asyncio.sleep(0.01)
    assert (desk.handed_over, desk.freed, len(store.commits)) == ([], [], 1)
    assert [turn.session_id for turn in desk.journal.turns] == ["a"]
    store.may_commit.set()
    await desk.flush()
    # All that came meanwhile is one commit.
    assert (store.commits, store.logs["a"]) == ([["a"], ["a"]], [1, 2, 3, 4, 5])
    assert desk.token_ids("a") == [1, 2, 3, 4, 5]
    assert desk.freed == ["a"]


@in_loop
async def test_all_turns_share_a_commit() -> None:
    ids = [f"session {i}" for i in range(50)]
    store = FakeStore(*ids)
    desk = Desk(store)
    for id in ids:
        desk.open(id)
    for token_id in range(3):
        for id in ids:
            desk.write(id, token_id)
    await desk.flush()
    assert store.commits == [ids]
    assert all(log == [0, 1, 2] for log in store.logs.values())


@in_loop
async def test_the_prompt_is_not_written_again() -> None:
    store = FakeStore("a")
    store.logs["a"] = [7, 8]
    desk = Desk(store)
    turn = desk.open("a", 2)
    desk.write("a", 7, 8, 9, n_echoed=2, finish_reason="length")
    await desk.flush()
    assert (store.logs["a"], turn.n_tokens) == ([7, 8, 9], 3)
    assert desk.token_ids("a") == [7, 8, 9]


@in_loop
async def test_requests_that_are_not_turns_are_passed_over() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.write("a", 1)
    desk.journal.close("gen a")
    await desk.flush()
    assert (store.commits, desk.handed_over) == ([], [])


@in_loop
async def test_a_turn_whose_reader_left_is_given_back() -> None:
    store = FakeStore("a", "b")
    desk = Desk(store)
    desk.open("a")
    desk.open("b")
    desk.write("a", 1)
    await desk.flush()
    desk.write("a", 2)  # not committed yet
    desk.journal.close("gen a")
    desk.journal.close("gen a")
    desk.journal.close("gen b")
    desk.write("a", 3)
    await desk.flush()
    assert store.logs == {"a": [1], "b": []}
    assert (store.done, desk.freed) == (["a", "b"], ["a", "b"])
    assert desk.token_ids("a") == [1]


@in_loop
async def test_a_commit_under_way_when_a_reader_leaves_is_kept() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.open("a")
    store.may_commit.clear()
    desk.write("a", 1)
    await store.waits.wait()
    desk.write("a", 2)
    desk.journal.close("gen a")
    assert desk.freed == []
    store.may_commit.set()
    await desk.flush()
    assert (store.logs["a"], store.done, desk.freed) == ([1], ["a"], ["a"])


@in_loop
async def test_settling_waits_for_the_commit_of_a_turn_that_is_over() -> None:
    store = FakeStore("a", "b")
    desk = Desk(store)
    desk.open("a")
    desk.open("b")
    await desk.journal.settle("a")  # whose turn is not over
    await desk.journal.settle("unknown")
    store.may_commit.clear()
    desk.journal.close("gen a")
    settling = asyncio.create_task(desk.journal.settle("a"))
    await store.waits.wait()
    desk.write("b", 1)
    assert not settling.done()
    store.may_commit.set()
    await settling
    assert desk.freed == ["a"]
    await desk.flush()


@in_loop
async def test_a_real_store_has_what_was_handed_over(tmp_path: Path) -> None:
    async with opened(f"sqlite://{tmp_path}/sessions.db") as store:
        ids = [await added(store, 1, 2) for _ in range(20)]
        desk = Desk(store)
        for id in ids:
            await store.begin(id, 2, [3])
            desk.open(id, 3)
        for token_id in range(4, 40):
            for id in ids:
                desk.write(id, token_id, finish_reason="length" if token_id == 39 else None)
            await asyncio.sleep(0)
        await desk.flush()
        assert sorted(desk.freed) == sorted(ids)
        for id in ids:
            assert await log_of(store, id) == list(range(1, 40))
            assert not (await store.get(id)).busy
            assert desk.token_ids(id) == list(range(4, 40))
        await lost(store, desk, ids[0])


@in_loop
async def test_a_prompt_may_come_with_the_answer_only() -> None:
    """Its first commit has both; without an answer there is nothing to commit."""
    store = FakeStore("found", "missed", "left", "failed")
    desk = Desk(store)
    for id in store.logs:
        desk.open(id, prompt=[1, 2])
    desk.write("found", 3)
    desk.write("missed", finish_reason="not_found")
    desk.journal.close("gen left")
    desk.journal.write(("gen failed", EngineError("failed")))
    await desk.flush()
    assert store.logs == {"found": [1, 2, 3], "missed": [], "left": [], "failed": []}
    assert sorted(store.done) == sorted(desk.freed) == ["failed", "left", "missed"]
    desk.write("found", 4)
    desk.write("found", finish_reason="stop", is_eos=True)
    await desk.flush()
    assert store.logs["found"] == [1, 2, 3, 4, EOS]


@in_loop
async def test_an_empty_answer_is_one() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    turn = desk.open("a", prompt=[1, 2])
    desk.write("a", finish_reason="stop", is_eos=True)
    await desk.flush()
    assert (store.logs["a"], turn.n_tokens) == ([1, 2, EOS], 3)


async def lost(store: SessionStore, desk: Desk, id: str) -> None:
    """A session that is deleted in the middle of its turn."""
    await store.begin(id, 39, [])
    desk.open(id, 39)
    await store.delete(id)
    desk.write(id, 1)
    await desk.flush()
    assert isinstance(desk.aborted[f"gen {id}"], SessionNotFoundError)
    assert desk.freed.count(id) == 2
