"""Plans of the step after one that is under way: none that costs anybody anything."""

import pytest

from causalrn.server.engine.drafter import Drafter
from causalrn.server.engine.pool import Pool
from causalrn.server.engine.scheduler import Chunk, Scheduler
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.warm_sessions import WarmSession

PAGE, N_PROMPT = 16, 3


def make(*, n_pages: int = 10, n_slots: int = 4) -> Scheduler:
    return Scheduler(Pool(n_pages, PAGE), n_slots=n_slots, max_batch_tokens=64)


def add(scheduler: Scheduler, name: str, max_tokens: int = 40) -> Sequence:
    rank = (0.0, len(scheduler.running) + len(scheduler.waiting))
    sequence = Sequence(name, [100 + ord(name), *range(1, N_PROMPT)], max_tokens, rank=rank)
    scheduler.add(sequence)
    return sequence


def collect(scheduler: Scheduler, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        chunk.sequence.placed = True
        scheduler.computed(chunk)
        chunk.sequence.token_ids.append(0)
        if not chunk.sequence.n_left:
            scheduler.remove(chunk.sequence)


def ids(chunks: list[Chunk]) -> list[tuple[str, int, int, bool]]:
    return [(one.sequence.id, one.start, one.n_tokens, one.is_last) for one in chunks]


def test_it_begins_where_the_step_under_way_will_end() -> None:
    scheduler = make()
    for name in "ab":
        add(scheduler, name)
    first = scheduler.schedule()
    assert scheduler.schedule_ahead(first) == []  # these are prompts
    collect(scheduler, first)
    second = scheduler.schedule()
    third = scheduler.schedule_ahead(second)
    assert ids(third) == [("a", N_PROMPT + 1, 1, True), ("b", N_PROMPT + 1, 1, True)]
    collect(scheduler, second)
    fourth = scheduler.schedule_ahead(third)
    collect(scheduler, third)
    collect(scheduler, fourth)
    assert ids(scheduler.schedule()) == [("a", N_PROMPT + 3, 1, True), ("b", N_PROMPT + 3, 1, True)]


def test_it_is_without_those_that_are_known_to_end() -> None:
    scheduler = make()
    add(scheduler, "a", 2)
    add(scheduler, "b", 4)
    collect(scheduler, scheduler.schedule())
    step = scheduler.schedule()
    ahead = scheduler.schedule_ahead(step)
    assert ids(ahead) == [("b", N_PROMPT + 1, 1, True)]
    collect(scheduler, step)
    assert ids(scheduler.schedule_ahead(ahead)) == [("b", N_PROMPT + 2, 1, True)]


@pytest.mark.parametrize("n_pages", [2, 3])
def test_it_takes_only_pages_that_nobody_uses(n_pages: int) -> None:
    scheduler = make(n_pages=n_pages)
    sequence = add(scheduler, "a", 2 * PAGE - N_PROMPT)
    while sequence.n_computed < PAGE - 1:
        collect(scheduler, scheduler.schedule())
    pool = scheduler.pool
    pool.sessions.keep("idle", WarmSession([1], pool.take(1)))
    step = scheduler.schedule()
    ahead = scheduler.schedule_ahead(step)
    assert (len(ahead), len(sequence.pages)) == ((0, 1) if n_pages == 2 else (1, 2))
    assert pool.sessions.ids == ["idle"]


@pytest.mark.parametrize("max_tokens", [2, 40])
def test_it_lets_nobody_wait_that_could_run(max_tokens: int) -> None:
    scheduler = make(n_slots=1)
    add(scheduler, "a", max_tokens)
    collect(scheduler, scheduler.schedule())
    add(scheduler, "b")
    # With the last token of the first one, there will be a slot.
    assert len(scheduler.schedule_ahead(scheduler.schedule())) == (max_tokens > 2)
    scheduler = make(n_slots=2)
    add(scheduler, "a")
    collect(scheduler, scheduler.schedule())
    step = scheduler.schedule()
    add(scheduler, "b")
    assert scheduler.schedule_ahead(step) == []


def test_it_leaves_guesses_to_steps_that_know_more() -> None:
    scheduler = make()
    sequence = add(scheduler, "a")
    sequence.drafter = Drafter(sequence.token_ids, (), longest=8)
    collect(scheduler, scheduler.schedule())
    step = scheduler.schedule()  # in which nothing is found, so that it pauses for two steps
    assert not step[0].draft
    ahead = []
    for _ in range(3):
        ahead.append(scheduler.schedule_ahead(step))
        collect(scheduler, step)
        step = ahead[-1] or scheduler.schedule()
    assert list(map(len, ahead)) == [1, 1, 0]
