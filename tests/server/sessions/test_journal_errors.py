"""Commits that fail, and turns that the engine gives up."""

import pytest

from causalrn.server.engine.deltas import Delta
from causalrn.server.errors import (
    EngineError,
    SessionBusyError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from tests.server.in_loop import in_loop
from tests.server.sessions.journal_desk import Desk, FakeStore


@in_loop
async def test_an_error_of_the_engine_ends_a_turn_after_what_came_before_it() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.open("a")
    error = EngineError("out of luck")
    desk.write("a", 1)
    desk.journal.write(("gen a", error))
    desk.write("a", 2)
    await desk.flush()
    assert store.logs["a"] == [1]
    assert [outcome for _, outcome in desk.handed_over] == [Delta([1], ""), error]
    assert (store.done, desk.freed, desk.aborted) == (["a"], ["a"], {})


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("the disk is full"), ZeroDivisionError("a bug")]
)
@in_loop
async def test_a_commit_that_fails_ends_all_turns_in_it(error: Exception) -> None:
    store = FakeStore("a", "b", "c")
    desk = Desk(store)
    for id in "abc":
        desk.open(id)
    desk.write("a", 1)
    desk.write("b", 2, finish_reason="length")
    store.error = error
    await desk.flush()
    assert desk.handed_over == []
    assert sorted(desk.aborted) == ["gen a", "gen b"]
    assert all(one.type == "session_store_unavailable" for one in desk.aborted.values())
    assert sorted(desk.freed) == ["a", "b"]
    store.error = None
    desk.write("c", 3, finish_reason="length")
    desk.write("a", 4)
    await desk.flush()
    assert store.logs == {"a": [], "b": [], "c": [3]}
    assert (desk.token_ids("c"), desk.journal.turns) == ([3], [])


@in_loop
async def test_a_commit_that_fails_for_one_turn_ends_that_turn_alone() -> None:
    store = FakeStore("a", "b")
    desk = Desk(store)
    desk.open("a")
    desk.open("b")
    error = SessionNotFoundError("it was deleted")
    store.error = {"a": error}
    desk.write("a", 1)
    desk.write("b", 2)
    await desk.flush()
    assert desk.aborted == {"gen a": error}
    assert (desk.token_ids("a"), desk.token_ids("b")) == ([], [2])
    desk.write("b", 3, finish_reason="length")
    await desk.flush()
    assert (store.logs["b"], desk.freed) == ([2, 3], ["a", "b"])


@in_loop
async def test_a_turn_whose_session_was_taken_ends_with_session_taken() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.open("a")
    store.error = {"a": SessionBusyError("it is gone")}
    desk.write("a", 1)
    await desk.flush()
    assert desk.aborted["gen a"].type == "session_taken"
    assert desk.freed == ["a"]


@in_loop
async def test_no_token_is_committed_behind_some_that_were_not() -> None:
    store = FakeStore("a")
    desk = Desk(store)
    desk.open("a")
    store.may_commit.clear()
    desk.write("a", 1)
    await store.waits.wait()
    desk.write("a", 2)
    desk.write("a", finish_reason="stop", is_eos=True)
    store.error = StoreUnavailableError("for a moment")
    desk.on_hand_over = lambda: setattr(store, "error", None)
    store.may_commit.set()
    await desk.flush()
    assert len(store.commits) == 2
    assert (store.logs["a"], desk.handed_over) == ([], [])
    assert (store.done, desk.freed) == (["a"], ["a"])
