from collections import Counter
from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from causalrn.server.engine.pool import Pool
from causalrn.server.engine.scheduler import Chunk, Scheduler
from causalrn.server.engine.sequence import Sequence, Status


def make(*, n_pages: int = 10, n_slots: int = 4, max_batch_tokens: int = 8) -> Scheduler:
    return Scheduler(Pool(n_pages, 16), n_slots=n_slots, max_batch_tokens=max_batch_tokens)


_ranks = count()


def sequence(name: str, n_prompt: int, max_tokens: int = 4, first: int | None = None) -> Sequence:
    """A sequence of a rank of its own; but for the first token, all begin alike."""
    rank = next(_ranks)
    token_ids = [1000 + rank if first is None else first, *range(1, n_prompt)]
    return Sequence(name, token_ids, max_tokens, rank=(0.0, rank))


def compute(scheduler: Scheduler, chunks: Iterable[Chunk]) -> None:
    """What the engine does with a plan."""
    for chunk in chunks:
        chunk.sequence.placed = True
        scheduler.computed(chunk)
        if chunk.is_last:
            chunk.sequence.token_ids.append(0)


def plan(scheduler: Scheduler) -> list[tuple[str, int, int]]:
    chunks = scheduler.schedule()
    compute(scheduler, chunks)
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
    compute(scheduler, first)
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
    long, short = sequence("long", 60), sequence("short", 1, 16)
    scheduler.add(short)
    plan(scheduler)
    scheduler.add(long)
    assert plan(scheduler) == [("short", 1, 1), ("long", 0, 7)]
    assert plan(scheduler) == [("long", 7, 7), ("short", 2, 1)]


def test_work_on_prompts_is_in_proportion_to_that_on_decoding_sequences() -> None:
    scheduler = make(n_pages=4000, n_slots=5, max_batch_tokens=2048)
    for name in "abcd":
        scheduler.add(sequence(name, 500, 100))
    while len(scheduler.running) < 4 or any(s.n_uncomputed > 1 for s in scheduler.running):
        plan(scheduler)
    scheduler.add(sequence("long", 40_000, first=0))
    sizes: list[int] = []
    while (last := plan(scheduler))[-1][0] == "long" and len(sizes) < 80:
        sizes.append(last[-1][2])
    costs = [n * (sum(sizes[:i]) + n / 2 + 64) for i, n in enumerate(sizes)]
    assert sizes[0] > 4 * sizes[-1]  # the longer its context, the fewer tokens
    assert max(costs) < 1.5 * min(costs)


def beside_one(n_prompts: int, *, n_slots: int = 64) -> list[tuple[str, int, int]]:
    """The step after prompts of 100 tokens have come, beside a sequence that is decoding."""
    scheduler = Scheduler(
        Pool(1000, 16), n_slots=n_slots, max_batch_tokens=256, token_pairs=1e9
    )  # a token costs the same anywhere
    scheduler.add(sequence("decoding", 1, 100))
    plan(scheduler)
    for number in range(n_prompts):
        scheduler.add(sequence(f"prompt {number}", 100))
    return plan(scheduler)[1:]


def test_every_prompt_adds_its_share_to_a_step_and_the_first_one_gets_it() -> None:
    assert beside_one(1) == [("prompt 0", 0, 32)]
    assert beside_one(3) == [("prompt 0", 0, 96)]
    assert beside_one(4) == [("prompt 0", 0, 100), ("prompt 1", 0, 28)]


def test_many_prompts_have_a_whole_step_and_no_more() -> None:
    assert [n for *_, n in beside_one(50)] == [100, 100, 55]


def test_the_shares_of_other_prompts_do_not_let_a_long_one_stall_a_step() -> None:
    scheduler = make(n_pages=4000, n_slots=60, max_batch_tokens=256)
    scheduler.add(sequence("decoding", 1, 4000))
    plan(scheduler)
    scheduler.add(long := sequence("long", 20_000, first=0))
    while long.n_computed < 2000:
        plan(scheduler)
    for number in range(50):
        scheduler.add(sequence(str(number), 100))
    start, n_tokens = plan(scheduler)[1][1:]
    cost = [n * (start + n / 2 + 64) for n in (n_tokens, n_tokens + 1)]
    assert cost[0] <= 256 * (256 / 2 + 64) < cost[1]  # that of a step of tokens without context


def test_prompts_that_have_no_slot_add_nothing() -> None:
    assert beside_one(10, n_slots=3) == [("prompt 0", 0, 64)]


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
    while big.n_uncomputed > 1:
        plan(scheduler)
    # Three pages of four are taken: `small` would fit, but it does not overtake.
    assert [each.status for each in (big, bigger, small)] == [
        Status.RUNNING, Status.WAITING, Status.WAITING,
    ]  # fmt: skip
    scheduler.remove(big)
    plan(scheduler)
    assert bigger.status is Status.RUNNING


def test_an_earlier_rank_goes_first() -> None:
    scheduler = make(n_slots=1)
    late, early = sequence("late", 1), sequence("early", 1)
    early.rank = (-1.0, 0)
    scheduler.add(late)
    scheduler.add(early)
    assert [name for name, *_ in plan(scheduler)] == ["early"]


def test_out_of_pages_the_last_one_waits_and_is_computed_again() -> None:
    scheduler = make(n_pages=3, max_batch_tokens=40)
    first, last = sequence("first", 16, 17), sequence("last", 16, 17)
    scheduler.add(first)
    scheduler.add(last)
    assert plan(scheduler) == [("first", 0, 16), ("last", 0, 16)]
    assert plan(scheduler) == [("first", 16, 1)]  # the last page; there is none for `last`
    assert (last.status, scheduler.n_preemptions, last.n_generated) == (Status.WAITING, 1, 1)
    while first.n_generated < 17:
        assert [name for name, *_ in plan(scheduler)] == ["first"]
    scheduler.remove(first)
    # The tokens that it had generated are known, and its full page was kept.
    assert plan(scheduler) == [("last", 16, 1)]
    assert last.n_generated == 2


def test_equal_beginnings_share_full_pages() -> None:
    scheduler = make(n_pages=20, max_batch_tokens=64)
    first, second = sequence("first", 40, first=0), sequence("second", 50, first=0)
    scheduler.add(first)
    plan(scheduler)
    scheduler.add(second)
    assert plan(scheduler) == [("first", 40, 1), ("second", 32, 18)]
    assert first.pages[:2] == second.pages[:2]
    assert (second.n_cached, scheduler.pool.allocator.n_used) == (32, 5)
    assert (scheduler.pool.cache.stats.queries, scheduler.pool.cache.stats.hits) == (90, 32)
    scheduler.remove(first)
    scheduler.remove(second)
    assert (scheduler.pool.allocator.n_used, scheduler.pool.allocator.n_kept) == (0, 3)
    third = sequence("third", 50, first=0)
    third.reusable = False
    scheduler.add(third)
    assert plan(scheduler) == [("third", 0, 50)]


@pytest.mark.parametrize("n_prompt", [31, 32, 33])
def test_a_fork_shares_full_pages_and_has_a_page_of_its_own(n_prompt: int) -> None:
    scheduler = make(n_pages=20, max_batch_tokens=64)
    origin = sequence("origin", n_prompt)
    scheduler.add(origin)
    plan(scheduler)
    other = sequence("other", n_prompt, first=origin.token_ids[0])
    other.token_ids.append(7)
    pages = scheduler.fork(origin, other)
    assert pages is not None
    n_full = n_prompt // 16
    assert other.pages == [*origin.pages[:n_full], pages[1]]
    if n_prompt % 16:
        assert pages[0] == origin.pages[n_full]
    assert (other.n_computed, other.n_uncomputed, other.placed) == (n_prompt, 1, True)
    assert plan(scheduler) == [("origin", n_prompt, 1), ("other", n_prompt, 1)]
    scheduler.remove(origin)
    scheduler.remove(other)
    assert scheduler.pool.allocator.n_used == 0


def test_a_fork_without_room_waits_and_finds_the_pages_later() -> None:
    scheduler = make(n_slots=1, max_batch_tokens=64)
    origin = sequence("origin", 40)
    scheduler.add(origin)
    plan(scheduler)
    other = sequence("other", 40, first=origin.token_ids[0])
    other.token_ids.append(7)
    assert scheduler.fork(origin, other) is None
    scheduler.remove(origin)
    assert plan(scheduler) == [("other", 32, 9)]


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
    assert (scheduler.pool.allocator.n_used, scheduler.n_free_slots) == (0, 4)
    assert (len(scheduler.waiting), len(scheduler.running)) == (0, 0)
    assert one.status is Status.FINISHED
    assert plan(scheduler) == []


def test_a_sequence_that_could_never_run_is_refused() -> None:
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
    """Any order of adding, forking, stepping and removing keeps the books straight."""

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
        first=strategies.sampled_from([None, 0, 1]),
        priority=strategies.integers(-1, 1),
    )
    def add(self, n_prompt: int, max_tokens: int, first: int | None, priority: int) -> Sequence:
        self.count += 1
        one = sequence(str(self.count), n_prompt, max_tokens, first)
        one.rank = (10.0 * priority, one.rank[1])
        self.scheduler.add(one)
        self.live.append(one)
        return one

    @rule(target=sequences, which=strategies.integers(0, 10))
    def fork(self, which: int) -> Sequence:
        """As the engine does it: where a prompt has just been computed."""
        ready = [one for one in self.scheduler.running if one.n_computed == one.n_prompt]
        self.count += 1
        if not ready:
            one = sequence(str(self.count), 1)
            self.scheduler.add(one)
            self.live.append(one)
            return one
        origin = ready[which % len(ready)]
        other = sequence(str(self.count), origin.n_prompt, origin.max_tokens, origin.token_ids[0])
        other.token_ids.append(8)
        self.scheduler.fork(origin, other)
        self.live.append(other)
        return other

    @rule()
    def step(self) -> None:
        could_move = bool(self.live)
        n_preemptions = self.scheduler.n_preemptions
        decoding = [one for one in self.scheduler.running if one.n_uncomputed == 1]
        chunks = self.scheduler.schedule()
        assert bool(chunks) == could_move
        assert sum(chunk.n_tokens for chunk in chunks) <= 8
        moving = [chunk.sequence for chunk in chunks]
        assert len(set(map(id, moving))) == len(moving)
        assert {id(one) for one in self.scheduler.running} >= {id(one) for one in moving}
        for one in decoding:
            gone = one.status is Status.WAITING and self.scheduler.n_preemptions > n_preemptions
            assert one in moving or gone, "a decoding sequence missed a step"
        compute(self.scheduler, chunks)
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
        allocator = scheduler.pool.allocator
        users = Counter(page for one in scheduler.running for page in one.pages)
        assert len(users) == allocator.n_used
        assert all(allocator.n_users(page) == n for page, n in users.items())
        for one in scheduler.running:
            # What is still to be written belongs to nobody else.
            assert all(users[page] == 1 for page in one.pages[one.n_computed // 16 :])
        slots = [one.slot for one in scheduler.running]
        assert len(set(slots)) == len(slots) == 4 - scheduler.n_free_slots
        known = [*scheduler.running, *scheduler.waiting]
        assert sorted(one.id for one in known) == sorted(one.id for one in self.live)
        assert all(not one.pages and one.slot is None for one in scheduler.waiting)
        for queue in (scheduler.running, scheduler.waiting):
            assert [one.rank for one in queue] == sorted(one.rank for one in queue)

    def teardown(self) -> None:
        for _ in range(2000):
            if not self.live:
                break
            self.step()
        assert not self.live, "somebody starves"
        assert (self.scheduler.pool.allocator.n_used, self.scheduler.n_free_slots) == (0, 4)


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
