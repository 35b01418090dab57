import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, strategies

from server.engine.deltas import Delta, Outcome
from server.errors import (
    EngineError,
    ServiceError,
    SessionBusyError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from server.sessions.journal import Journal
from server.sessions.store.base import Append, SessionStore
from server.sessions.turn import Turn
from tests.server.sessions.store.stores import added, in_loop, log_of, opened

EOS = 258


class Store:
    """A store of which only `append` is there, and which a test holds up and breaks.

    Attributes:
        logs: what is committed.
        done: sessions that were given back.
        commits: the ids of each commit.
        gaps: appends that were not to what is committed. Raised, they would be an error like
            any other to the journal, which would end the turns and go on.
        error: raised by the next commits, or, by id, what they return.
    """

    made: ClassVar[list["Store"]] = []

    def __init__(self, *ids: str) -> None:
        self.made.append(self)
        self.logs: dict[str, list[int]] = {id: [] for id in ids}
        self.done: list[str] = []
        self.commits: list[list[str]] = []
        self.gaps: list[tuple[Append, int]] = []
        self.error: Exception | dict[str, ServiceError] | None = None
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.waits = asyncio.Event()

    async def append(self, appends: Sequence[Append]) -> list[ServiceError | None]:
        self.commits.append([append.id for append in appends])
        self.waits.set()
        await self.may_commit.wait()
        if isinstance(self.error, Exception):
            raise self.error
        errors = self.error or {}
        for append in appends:
            if append.id not in errors:
                if append.start != (end := len(self.logs[append.id])):
                    self.gaps.append((append, end))
                self.logs[append.id] += append.token_ids
                self.done += [append.id] * append.done
        return [errors.get(append.id) for append in appends]


@pytest.fixture(autouse=True)
def _no_gaps() -> Iterator[None]:
    Store.made.clear()
    yield
    assert [store.gaps for store in Store.made if store.gaps] == []


class Desk:
    """A journal, and what becomes of what is written.

    It passes on what the engine does: who is aborted is closed.
    """

    def __init__(self, store: Any) -> None:
        self.handed_over: list[Outcome] = []
        self.aborted: dict[str, ServiceError] = {}
        self.freed: list[str] = []
        self.on_hand_over: Callable[[], None] = lambda: None
        self.journal = Journal(store, self._hand_over, self._abort)

    def open(self, id: str, n_tokens: int = 0) -> Turn:
        turn = Turn(f"gen {id}", id, n_tokens, EOS, lambda: self.freed.append(id))
        self.journal.open(turn)
        return turn

    def write(self, id: str, *token_ids: int, **options: Any) -> None:
        self.journal.write((f"gen {id}", Delta(list(token_ids), "", **options)))

    def token_ids(self, id: str) -> list[int]:
        """What the reader of a session got."""
        return [
            token_id
            for name, delta in self.handed_over
            if name == f"gen {id}" and isinstance(delta, Delta)
            for token_id in delta.token_ids
        ]

    def _hand_over(self, outcomes: list[Outcome]) -> None:
        self.handed_over += outcomes
        self.on_hand_over()

    def _abort(self, id: str, error: ServiceError) -> None:
        assert id not in self.aborted
        self.aborted[id] = error
        self.journal.close(id)


@in_loop
async def test_what_is_written_is_committed_and_then_handed_over() -> None:
    store = Store("a")
    desk = Desk(store)
    turn = desk.open("a")
    seen = []
    desk.on_hand_over = lambda: seen.append((list(store.logs["a"]), turn.n_tokens, desk.freed[:]))
    desk.write("a", 1, 2)
    desk.write("a", 3)
    assert desk.handed_over == []
    await desk.journal.flush()
    desk.write("a", finish_reason="stop", is_eos=True)
    await desk.journal.flush()
    assert seen == [([1, 2, 3], 3, []), ([1, 2, 3, EOS], 4, [])]
    assert desk.token_ids("a") == [1, 2, 3]
    assert (store.done, desk.freed, desk.journal.turns) == (["a"], ["a"], [])


@in_loop
async def test_nothing_reaches_the_stream_while_a_commit_lasts() -> None:
    store = Store("a")
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
    await desk.journal.flush()
    # All that came meanwhile is one commit.
    assert (store.commits, store.logs["a"]) == ([["a"], ["a"]], [1, 2, 3, 4, 5])
    assert desk.token_ids("a") == [1, 2, 3, 4, 5]
    assert desk.freed == ["a"]


@in_loop
async def test_all_turns_share_a_commit() -> None:
    ids = [f"session {i}" for i in range(50)]
    store = Store(*ids)
    desk = Desk(store)
    for id in ids:
        desk.open(id)
    for token_id in range(3):
        for id in ids:
            desk.write(id, token_id)
    await desk.journal.flush()
    assert store.commits == [ids]
    assert all(log == [0, 1, 2] for log in store.logs.values())


@in_loop
async def test_the_prompt_is_not_written_again() -> None:
    store = Store("a")
    store.logs["a"] = [7, 8]
    desk = Desk(store)
    turn = desk.open("a", 2)
    desk.write("a", 7, 8, 9, n_echoed=2, finish_reason="length")
    await desk.journal.flush()
    assert (store.logs["a"], turn.n_tokens) == ([7, 8, 9], 3)
    assert desk.token_ids("a") == [7, 8, 9]


@in_loop
async def test_unknown_requests_are_fine() -> None:
    store = Store("a")
    desk = Desk(store)
    desk.write("a", 1)
    desk.journal.close("gen a")
    await desk.journal.flush()
    assert (store.commits, desk.handed_over) == ([], [])


@in_loop
async def test_a_turn_that_nobody_reads_any_more_is_given_back() -> None:
    store = Store("a", "b")
    desk = Desk(store)
    desk.open("a")
    desk.open("b")
    desk.write("a", 1)
    await desk.journal.flush()
    desk.write("a", 2)  # not committed yet
    desk.journal.close("gen a")
    desk.journal.close("gen a")
    desk.journal.close("gen b")
    desk.write("a", 3)
    await desk.journal.flush()
    assert store.logs == {"a": [1], "b": []}
    assert (store.done, desk.freed) == (["a", "b"], ["a", "b"])
    assert desk.token_ids("a") == [1]


@in_loop
async def test_what_is_being_committed_when_a_reader_leaves_stays() -> None:
    store = Store("a")
    desk = Desk(store)
    desk.open("a")
    store.may_commit.clear()
    desk.write("a", 1)
    await store.waits.wait()
    desk.write("a", 2)
    desk.journal.close("gen a")
    assert desk.freed == []
    store.may_commit.set()
    await desk.journal.flush()
    assert (store.logs["a"], store.done, desk.freed) == ([1], ["a"], ["a"])


@in_loop
async def test_a_session_settles_when_a_turn_that_is_over_is_committed() -> None:
    store = Store("a", "b")
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
    await desk.journal.flush()


@in_loop
async def test_an_error_of_the_engine_ends_a_turn_after_what_came_before_it() -> None:
    store = Store("a")
    desk = Desk(store)
    desk.open("a")
    error = EngineError("out of luck")
    desk.write("a", 1)
    desk.journal.write(("gen a", error))
    desk.write("a", 2)
    await desk.journal.flush()
    assert store.logs["a"] == [1]
    assert [outcome for _, outcome in desk.handed_over] == [Delta([1], ""), error]
    assert (store.done, desk.freed, desk.aborted) == (["a"], ["a"], {})


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("the disk is full"), ZeroDivisionError("a bug")]
)
def test_a_commit_that_fails_ends_all_turns_in_it(error: Exception) -> None:
    @in_loop
    async def test() -> None:
        store = Store("a", "b", "c")
        desk = Desk(store)
        for id in "abc":
            desk.open(id)
        desk.write("a", 1)
        desk.write("b", 2, finish_reason="length")
        store.error = error
        await desk.journal.flush()
        assert desk.handed_over == []
        assert sorted(desk.aborted) == ["gen a", "gen b"]
        assert all(one.type == "session_store_unavailable" for one in desk.aborted.values())
        assert sorted(desk.freed) == ["a", "b"]
        store.error = None
        desk.write("c", 3, finish_reason="length")
        desk.write("a", 4)
        await desk.journal.flush()
        assert store.logs == {"a": [], "b": [], "c": [3]}
        assert (desk.token_ids("c"), desk.journal.turns) == ([3], [])

    test()


@in_loop
async def test_a_turn_that_fails_alone_fails_alone() -> None:
    store = Store("a", "b")
    desk = Desk(store)
    desk.open("a")
    desk.open("b")
    error = SessionNotFoundError("it was deleted")
    store.error = {"a": error}
    desk.write("a", 1)
    desk.write("b", 2)
    await desk.journal.flush()
    assert desk.aborted == {"gen a": error}
    assert (desk.token_ids("a"), desk.token_ids("b")) == ([], [2])
    desk.write("b", 3, finish_reason="length")
    await desk.journal.flush()
    assert (store.logs["b"], desk.freed) == ([2, 3], ["a", "b"])


@in_loop
async def test_a_turn_whose_session_was_taken_is_not_to_be_sent_again() -> None:
    store = Store("a")
    desk = Desk(store)
    desk.open("a")
    store.error = {"a": SessionBusyError("it is gone")}
    desk.write("a", 1)
    await desk.journal.flush()
    assert desk.aborted["gen a"].type == "session_taken"
    assert desk.freed == ["a"]


@in_loop
async def test_no_token_is_committed_behind_some_that_were_not() -> None:
    store = Store("a")
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
    await desk.journal.flush()
    assert len(store.commits) == 2
    assert (store.logs["a"], desk.handed_over) == ([], [])
    assert (store.done, desk.freed) == (["a"], ["a"])


Event = tuple[str, int]
events = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(
            ["write"] * 5 + ["end", "close", "error", "hold", "go", "fail", "ok"]
        ),
        strategies.integers(0, 3),
    ),
    max_size=60,
)


@given(events)
def test_whatever_happens_logs_have_no_gaps_and_every_turn_is_freed_once(
    storm: list[Event],
) -> None:
    """What a reader got is committed; what is committed is a beginning of what was written."""

    @in_loop
    async def test() -> None:
        ids = list("abcd")
        store = Store(*ids)
        desk = Desk(store)
        for id in ids:
            desk.open(id)
        written: dict[str, list[int]] = {id: [] for id in ids}
        desk.on_hand_over = lambda: check(store, desk)
        for kind, which in storm:
            id = ids[which]
            if kind in ("write", "end"):
                token_id = len(written[id])
                written[id].append(token_id)
                desk.write(id, token_id, finish_reason="length" if kind == "end" else None)
            elif kind == "close":
                desk.journal.close(f"gen {id}")
            elif kind == "error":
                desk.journal.write((f"gen {id}", EngineError("x")))
            elif kind == "hold":
                store.may_commit.clear()
            elif kind == "go":
                store.may_commit.set()
            elif kind == "fail":
                store.error = (
                    StoreUnavailableError("x") if which % 2 else {id: SessionBusyError("x")}
                )
            else:
                store.error = None
            if which == 0:
                await asyncio.sleep(0)
        store.may_commit.set()
        for id in ids:
            desk.journal.close(f"gen {id}")
        await desk.journal.flush()
        check(store, desk)
        assert sorted(desk.freed) == ids
        for id in ids:
            assert store.logs[id] == written[id][: len(store.logs[id])]

    test()


def check(store: Store, desk: Desk) -> None:
    assert store.gaps == []
    for id, log in store.logs.items():
        got = desk.token_ids(id)
        assert got == log[: len(got)]


@in_loop
async def test_with_a_real_store(tmp_path: Path) -> None:
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
        await desk.journal.flush()
        assert sorted(desk.freed) == sorted(ids)
        for id in ids:
            assert await log_of(store, id) == list(range(1, 40))
            assert not (await store.get(id)).busy
            assert desk.token_ids(id) == list(range(4, 40))
        await lost(store, desk, ids[0])


async def lost(store: SessionStore, desk: Desk, id: str) -> None:
    """A session that is deleted in the middle of its turn."""
    await store.begin(id, 39, [])
    desk.open(id, 39)
    await store.delete(id)
    desk.write(id, 1)
    await desk.journal.flush()
    assert isinstance(desk.aborted[f"gen {id}"], SessionNotFoundError)
    assert desk.freed.count(id) == 2
