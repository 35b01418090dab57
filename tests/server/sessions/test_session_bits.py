"""A session gives the same bits warm, cold, forked, restored and evicted, on the shipped model."""

from collections.abc import Callable
from typing import Any

import pytest

from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.sampling import SamplingParams
from causalrn.server.engine.core import EngineCore
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.sessions.snapshot import Snapshot, read_snapshot, write_snapshot
from causalrn.server.settings import Settings
from tests.server.driver import Driver
from tests.server.spoilt_drafter import spoil

N_TURNS = 20
PAGE_SIZE = 16


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(Settings().checkpoint[0])


def make_settings(checkpoint: Checkpoint, n_pages: int = 4000, **changes: Any) -> Settings:
    values = {
        "max_running": 8,
        "max_batch_tokens": 64,
        "page_size": PAGE_SIZE,
        "pool_bytes": pool_bytes(
            checkpoint, page_size=PAGE_SIZE, n_slots=8, n_pages=n_pages, n_drafting=8
        ),
    }
    return Settings.model_validate(values | changes)


def turn(i: int) -> dict[str, Any]:
    """Copies that end with EOS or at a limit, raw text, draws, and turns that only read."""
    text = f"turn {i} of the conversation: {'näh und fern ' * (i % 4)}"
    mode = "raw" if i % 5 == 3 else "copy"
    hot = SamplingParams(temperature=1.2, top_k=40, seed=i)
    return {
        "text": "" if i % 10 == 8 else text,
        "max_tokens": {0: None, 1: 7, 2: 0, 3: 12}.get(i % 6),
        "mode": "raw" if i % 10 == 8 else mode,
        "sampling": hot if i % 7 == 5 else SamplingParams(),
        "logprobs": 2,
    }


def talk(
    driver: Driver[Checkpoint],
    turns: range = range(N_TURNS),
    session: str = "s",
    before: Callable[[int], None] = lambda _: None,
) -> list[Delta]:
    """Turns one after the other; what came out of each."""
    for i in turns:
        before(i)
        driver.add(f"{session} {i}", session=session, **turn(i))
        while driver.core.n_live:
            driver.step()
    return [driver.joined(f"{session} {i}") for i in turns]


@pytest.fixture(scope="module")
def wanted(checkpoint: Checkpoint) -> tuple[list[Delta], list[int]]:
    """The conversation without guesses, computed from nothing before every turn."""
    settings = make_settings(checkpoint, max_batch_tokens=4000, max_draft_tokens=0)
    driver = Driver(checkpoint, settings, reuse=False)
    deltas = talk(driver, before=lambda _: driver.drop("s"))
    driver.assert_nothing_leaks()
    assert driver.core.pool.cache.stats.hits == 0
    return deltas, driver.logs["s"]


def test_the_conversation_is_no_constant(wanted: tuple[list[Delta], list[int]]) -> None:
    deltas, log = wanted
    assert len({str(delta) for delta in deltas if delta.token_ids}) >= N_TURNS - 4
    assert {delta.finish_reason for delta in deltas} == {"stop", "length"}
    assert len(log) > 50 * PAGE_SIZE


def test_a_session_in_which_guesses_are_often_wrong_has_the_same_bits(
    checkpoint: Checkpoint,
    wanted: tuple[list[Delta], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, checkpoint.config.vocab_size)
    driver = Driver(checkpoint, make_settings(checkpoint))
    assert (talk(driver), driver.logs["s"]) == wanted
    scheduler = driver.core.scheduler
    assert scheduler.n_accepted > 200
    assert scheduler.n_drafted - scheduler.n_accepted > 50
    driver.assert_nothing_leaks()


def test_a_warm_session_has_the_same_bits(
    checkpoint: Checkpoint, wanted: tuple[list[Delta], list[int]]
) -> None:
    driver = Driver(checkpoint, make_settings(checkpoint))
    assert (talk(driver), driver.logs["s"]) == wanted
    # Nothing was computed twice, but where a turn that only reads was gone on from without words.
    assert driver.core.n_tokens < len(driver.logs["s"])
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("reuse", [False, True])
def test_a_session_that_is_cold_before_every_turn_has_the_same_bits(
    checkpoint: Checkpoint, wanted: tuple[list[Delta], list[int]], reuse: bool
) -> None:
    driver = Driver(checkpoint, make_settings(checkpoint), reuse=reuse)
    assert (talk(driver, before=lambda _: driver.drop("s")), driver.logs["s"]) == wanted
    assert (driver.core.pool.cache.stats.hits > 0) == reuse
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("at", [1, 7, 13])
def test_forks_have_the_same_bits(
    checkpoint: Checkpoint, wanted: tuple[list[Delta], list[int]], at: int
) -> None:
    deltas, log = wanted
    driver = Driver(checkpoint, make_settings(checkpoint))
    talk(driver, range(at))
    driver.fork("s", "child")
    driver.fork("s", "other child")
    # Both go on, one after the other, on pages that both have.
    driver.add("interlude", "something else altogether", session="other child")
    driver.run()
    assert talk(driver, range(at, N_TURNS), "child") == deltas[at:]
    assert talk(driver, range(at, N_TURNS)) == deltas[at:]
    assert driver.logs["s"] == driver.logs["child"] == log
    driver.assert_nothing_leaks()


@pytest.mark.parametrize("at", [1, 3, 9, 19])
def test_a_session_restored_elsewhere_has_the_same_bits(
    checkpoint: Checkpoint, wanted: tuple[list[Delta], list[int]], at: int
) -> None:
    deltas, log = wanted
    first = Driver(checkpoint, make_settings(checkpoint))
    talk(first, range(at))
    snapshot = through_a_file(checkpoint, first.core, "s", first.logs["s"])
    second = Driver(checkpoint, make_settings(checkpoint, page_size=64, max_batch_tokens=300))
    second.add("before", "company, so that other pages are used")
    second.run()
    n_tokens = second.core.n_tokens
    held = snapshot.token_ids[: snapshot.n_held]
    assert second.core.sessions.restore("s", held, snapshot.memory)
    second.logs["s"] = snapshot.token_ids
    assert talk(second, range(at, at + 1)) == deltas[at : at + 1]
    made = len(second.logs["s"]) - len(held)
    assert second.core.n_tokens - n_tokens == made - 1  # the last is never read
    assert talk(second, range(at + 1, N_TURNS)) == deltas[at + 1 :]
    assert second.logs["s"] == log
    second.assert_nothing_leaks()


def test_a_session_saved_after_turns_that_end_within_a_draft_has_the_same_bits(
    checkpoint: Checkpoint,
) -> None:
    """Every turn is another server's; what was guessed beyond the end of a turn is in no file."""
    whole = Driver(checkpoint, make_settings(checkpoint, max_draft_tokens=0), reuse=False)
    driver = Driver(checkpoint, make_settings(checkpoint))
    for i in range(8):
        text = f"{i} one, two, three; four and five, six and seven; eight or {'nine ' * i}"
        stop = [(";",), ("and seven",), ("e, t",)][i % 3]
        for one in (whole, driver):
            one.add(str(i), text, 500, stop, session="s", logprobs=2)
        whole.run()
        while driver.core.n_live:
            scheduler = driver.core.scheduler
            before = scheduler.n_drafted - scheduler.n_accepted
            driver.step()
            n_beyond = scheduler.n_drafted - scheduler.n_accepted - before
        assert n_beyond > 0
        assert driver.joined(str(i)) == whole.joined(str(i))
        snapshot = through_a_file(checkpoint, driver.core, "s", driver.logs["s"])
        driver = Driver(checkpoint, make_settings(checkpoint))
        held = snapshot.token_ids[: snapshot.n_held]
        assert driver.core.sessions.restore("s", held, snapshot.memory)
        driver.logs["s"] = snapshot.token_ids
    assert driver.logs["s"] == whole.logs["s"]
    driver.assert_nothing_leaks()


def through_a_file(checkpoint: Checkpoint, core: EngineCore, id: str, log: list[int]) -> Snapshot:
    held = core.sessions.export(id, log)
    assert held is not None
    size, parts = write_snapshot(Snapshot(log, *held), checkpoint)
    data = b"".join(parts)
    assert len(data) == size
    return read_snapshot(data, checkpoint, core.layers)


def test_sessions_that_evict_each_other_have_the_same_bits(
    checkpoint: Checkpoint, wanted: tuple[list[Delta], list[int]]
) -> None:
    deltas, log = wanted
    driver = Driver(checkpoint, make_settings(checkpoint, n_pages=110))
    names = ["s", "t", "u"]
    for i in range(N_TURNS):
        for name in names:
            driver.add(f"{name} {i}", session=name, **turn(i))
            driver.step()
            driver.add(f"noise {name} {i}", f"{i} other things are copied, too " * (1 + i % 3))
        while driver.core.n_live:
            driver.step()
    for name in names:
        assert [driver.joined(f"{name} {i}") for i in range(N_TURNS)] == deltas, name
        assert driver.logs[name] == log
    scheduler = driver.core.scheduler
    assert scheduler.pool.n_evictions > 0
    assert scheduler.n_preemptions > 0
    driver.assert_nothing_leaks()


def test_a_session_that_was_aborted_goes_on_with_the_same_bits(checkpoint: Checkpoint) -> None:
    drivers = [
        Driver(checkpoint, make_settings(checkpoint)),
        Driver(checkpoint, make_settings(checkpoint, max_batch_tokens=4000), reuse=False),
    ]
    for driver in drivers:
        driver.add("a", "a text of which a part is copied", session="s")
        while len(driver.logs["s"]) < 50:
            driver.step()
        driver.abort("a")
        driver.logs["s"] = driver.logs["s"][:45]  # what was committed by then
        if not driver.reuse:
            driver.drop("s")
        driver.add("b", "another", session="s", logprobs=1)
        driver.run()
    assert drivers[0].joined("b") == drivers[1].joined("b")
    assert drivers[0].text["b"] == "another"
