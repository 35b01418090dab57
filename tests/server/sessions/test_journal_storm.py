import asyncio

from hypothesis import given, strategies

from causalrn.server.errors import EngineError, SessionBusyError, StoreUnavailableError
from tests.server.in_loop import in_loop
from tests.server.sessions.journal_desk import Desk, FakeStore

Event = tuple[str, int]
PROMPTS = {"c": [91, 92], "d": [93]}  # of turns that commit them together with the answer
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
@in_loop
async def test_whatever_happens_logs_have_no_gaps_and_every_turn_is_freed_once(
    storm: list[Event],
) -> None:
    """What a reader got is committed; what is committed is a beginning of what was written.

    A prompt that comes with the answer is there with a token of it, or not at all.
    """

    ids = list("abcd")
    store = FakeStore(*ids)
    desk = Desk(store)
    for id in ids:
        desk.open(id, prompt=PROMPTS.get(id, ()))
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
            store.error = StoreUnavailableError("x") if which % 2 else {id: SessionBusyError("x")}
        else:
            store.error = None
        if which == 0:
            await asyncio.sleep(0)
    store.may_commit.set()
    for id in ids:
        desk.journal.close(f"gen {id}")
    await desk.flush()
    check(store, desk)
    assert sorted(desk.freed) == ids
    for id in ids:
        prompt, log = PROMPTS.get(id, []), store.logs[id]
        assert log == (prompt + written[id])[: len(log)]
        assert not log or len(log) > len(prompt)


def check(store: FakeStore, desk: Desk) -> None:
    assert store.gaps == []
    for id, log in store.logs.items():
        got, begin = desk.token_ids(id), len(PROMPTS.get(id, ()))
        assert got == log[begin : begin + len(got)]
