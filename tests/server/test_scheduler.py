from collections.abc import Iterable

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from server.block_allocator import BlockAllocator
from server.scheduler import Chunk, Scheduler
from server.sequence import Sequence, Status


def make(*, n_pages: int = 10, n_slots: int = 4, max_batch_tokens: int = 8) -> Scheduler:
    return Scheduler(
        BlockAllocator(n_pages, 16), n_slots=n_slots, max_batch_tokens=max_batch_tokens
    )


def sequence(name: str, n_prompt: int, max_tokens: int = 4) -> Sequence:
    return Sequence(name, list(range(n_prompt)), max_tokens)


def compute(chunks: Iterable[Chunk]) -> None:
    """What the engine does with a plan."""
    for chunk in chunks:
        chunk.sequence.n_computed += chunk.n_tokens
        if chunk.is_last:
            chunk.sequence.token_ids.append(0)


def plan(scheduler: Scheduler) -> list[tuple[str, int, int]]:
    chunks = scheduler.schedule()
    compute(chunks)
    return [(chunk.sequence.id, chunk.start, chunk.n_tokens) for chunk in chunks]


def test_prompts_go_in_chunks_then_one_token_a_step() -> None:
    scheduler = make()
    scheduler.add(sequence("a", 19))
    assert [plan(scheduler) for _ in range(5)] == [
        [("a", 0, 8)], [("a", 8, 8)], [("a", 16, 3)], [("a", 19, 1)], [("a", 20, 1)],
    ]  # fmt: skip


def test_is_last_marks_the_chunk_after_which_a_token_is_sampled() -> None:
    scheduler = make()
    scheduler.add(sequence("a", 9))
    first = scheduler.schedule()
    compute(first)
    assert [chunk.is_last for chunk in first + scheduler.schedule()] == [False, True]


def test_decoding_goes_on_beside_a_long_prompt() -> None:
    scheduler = make()
    scheduler.add(sequence("a", 2, 16))
    plan(scheduler)
    scheduler.add(sequence("long", 60))
    steps = [plan(scheduler) for _ in range(8)]
    assert all(step[0][0] == "a" and step[0][2] == 1 for step in steps)
    assert all(step[1][0] == "long" and step[1][2] == 7 for step in steps)


def test_a_long_prompt_that_came_first_does_not_stall_the_later_ones() -> None:
    scheduler = make()
    scheduler.add(sequence("short", 1, 16))
    plan(scheduler)
    scheduler.add(sequence("long", 60))
    plan(scheduler)
    scheduler.running.reverse()
    assert plan(scheduler) == [("short", 2, 1), ("long", 7, 7)]


def test_prompts_share_a_step_with_what_is_left_of_the_budget() -> None:
    scheduler = make()
    for name, length in (("a", 3), ("b", 4), ("c", 5)):
        scheduler.add(sequence(name, length))
    assert plan(scheduler) == [("a", 0, 3), ("b", 0, 4), ("c", 0, 1)]
    assert plan(scheduler) == [("a", 3, 1), ("b", 4, 1), ("c", 1, 4)]


def test_the_first_to_come_is_the_first_to_be_admitted() -> None:
    scheduler = make(n_pages=4)
    big, bigger, small = sequence("big", 33), sequence("bigger", 40, 20), sequence("small", 1)
    for each in (big, bigger, small):
        scheduler.add(each)
    plan(scheduler)
    # Three pages of four are taken: `small` would fit, but it does not overtake.
    assert [each.status for each in (big, bigger, small)] == [
        Status.RUNNING, Status.WAITING, Status.WAITING,
    ]  # fmt: skip
    scheduler.remove(big)
    plan(scheduler)
    assert (bigger.status, small.status) == (Status.RUNNING, Status.WAITING)


def test_slots_are_a_limit_too() -> None:
    scheduler = make(n_slots=2)
    for name in "abc":
        scheduler.add(sequence(name, 1))
    assert [name for name, *_ in plan(scheduler)] == ["a", "b"]
    scheduler.remove(scheduler.running[0])
    assert [name for name, *_ in plan(scheduler)] == ["b", "c"]


@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_removing_frees_everything_in_every_state(n_steps: int) -> None:
    scheduler = make()
    one = sequence("a", 19)
    scheduler.add(one)
    for _ in range(n_steps):
        plan(scheduler)
    scheduler.remove(one)
    scheduler.remove(one)
    assert (scheduler.allocator.n_used, scheduler.n_free_slots) == (0, 4)
    assert (len(scheduler.waiting), len(scheduler.running)) == (0, 0)
    assert one.status is Status.FINISHED
    assert plan(scheduler) == []


def test_what_could_never_run_is_refused() -> None:
    scheduler = make()
    assert scheduler.fits(160)
    assert not scheduler.fits(161)
    with pytest.raises(ValueError, match="more pages than the pool has"):
        scheduler.add(sequence("a", 100, 62))
    scheduler.add(sequence("b", 100, 61))


def test_a_sequence_is_added_once() -> None:
    scheduler = make()
    one = sequence("a", 1)
    scheduler.add(one)
    plan(scheduler)
    with pytest.raises(ValueError, match="not new"):
        scheduler.add(one)


def test_a_budget_below_the_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch_tokens"):
        make(n_slots=9, max_batch_tokens=8)


class Storm(RuleBasedStateMachine):
    """Any order of adding, stepping and removing keeps the books straight."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = make()
        self.live: list[Sequence] = []
        self.count = 0

    @rule(
        target=sequences,
        n_prompt=strategies.integers(1, 80),
        max_tokens=strategies.integers(1, 80),
    )
    def add(self, n_prompt: int, max_tokens: int) -> Sequence:
        self.count += 1
        one = sequence(str(self.count), n_prompt, max_tokens)
        self.scheduler.add(one)
        self.live.append(one)
        return one

    @rule()
    def step(self) -> None:
        could_move = bool(self.live)
        chunks = self.scheduler.schedule()
        assert bool(chunks) == could_move
        assert sum(chunk.n_tokens for chunk in chunks) <= 8
        moving = [chunk.sequence for chunk in chunks]
        assert len(set(map(id, moving))) == len(moving)
        assert {id(one) for one in self.scheduler.running} >= {id(one) for one in moving}
        for one in self.scheduler.running:
            if one.n_uncomputed == 1:
                assert one in moving, "a decoding sequence missed a step"
        compute(chunks)
        for one in moving:
            assert one.n_computed <= 16 * len(one.pages)
            if one.n_generated == one.max_tokens:
                self.remove(one)

    @rule(one=sequences)
    def remove(self, one: Sequence) -> None:
        self.scheduler.remove(one)
        self.live = [other for other in self.live if other is not one]

    @invariant()
    def books_are_straight(self) -> None:
        scheduler = self.scheduler
        pages = [page for one in scheduler.running for page in one.pages]
        slots = [one.slot for one in scheduler.running]
        assert len(set(pages)) == len(pages) == scheduler.allocator.n_used
        assert len(set(slots)) == len(slots) == 4 - scheduler.n_free_slots
        known = [*scheduler.running, *scheduler.waiting]
        assert sorted(one.id for one in known) == sorted(one.id for one in self.live)
        # First come, first served: whoever runs came before whoever waits.
        assert all(
            int(running.id) < int(waiting.id)
            for running in scheduler.running
            for waiting in scheduler.waiting
        )

    def teardown(self) -> None:
        for one in list(self.live):
            self.remove(one)
        assert (self.scheduler.allocator.n_used, self.scheduler.n_free_slots) == (0, 4)


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
