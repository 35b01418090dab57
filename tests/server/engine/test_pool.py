"""What is given up, and in which order, when pages or rows run out."""

import pytest

from causalrn.server.engine.pool import Pool
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.warm_sessions import WarmSession


def cached(pool: Pool, first_id: int, *, keep: bool = True) -> int:
    """A page of sixteen tokens that nobody uses, but that can be found."""
    sequence = Sequence("a", [first_id] * 17, 1)
    sequence.pages, sequence.n_computed = pool.take(1), 16
    if keep:
        assert pool.keep_state(sequence.pages[0])
    pool.cache.add(sequence)
    pool.allocator.free(sequence.pages)
    return sequence.pages[0]


def idle(pool: Pool, id: str) -> int:
    """A session of one page."""
    pages = pool.take(1)
    assert pool.keep_state(pages[0])
    pool.sessions.keep(id, WarmSession([0] * 16, pages))
    return pages[0]


def test_blank_pages_are_taken_before_kept_ones() -> None:
    pool = Pool(3, 16)
    page = cached(pool, 1)
    assert page not in pool.take(2)
    assert pool.cache.find([1] * 17)[0] == [page]
    assert pool.take(1) == [page]
    assert pool.cache.find([1] * 17)[0] == []


def test_taking_too_much_gives_up_nothing() -> None:
    pool = Pool(3, 16)
    page = cached(pool, 1)
    with pytest.raises(MemoryError):
        pool.take(4)
    assert pool.cache.find([1] * 17)[0] == [page]


def test_a_row_is_taken_from_the_page_that_was_unused_longest() -> None:
    pool = Pool(8, 16, n_rows=2, state_every=4)
    first, second = cached(pool, 1), cached(pool, 2)
    (page,) = pool.take(1)
    assert pool.keep_state(page)
    assert (first in pool.states, second in pool.states, page in pool.states) == (
        False, True, True
    )  # fmt: skip
    assert pool.cache.find([1] * 17)[0] == []  # it is known, but nobody can go on from it
    assert pool.keep_state(page)
    assert pool.states.n_used == 2


@pytest.mark.parametrize("at_any_price", [False, True])
def test_only_a_session_that_ends_a_turn_costs_another_its_row(*, at_any_price: bool) -> None:
    pool = Pool(8, 16, n_rows=2, state_every=4)
    idle(pool, "old")
    idle(pool, "new")
    (page,) = pool.take(1)
    assert pool.keep_state(page, at_any_price=at_any_price) == at_any_price
    assert pool.sessions.ids == (["new"] if at_any_price else ["old", "new"])
    assert pool.n_evictions == int(at_any_price)


def test_rows_that_running_sequences_have_are_not_taken() -> None:
    pool = Pool(8, 16, n_rows=1, state_every=4)
    one, other = pool.take(2)
    assert pool.keep_state(one)
    assert not pool.keep_state(other, at_any_price=True)


def test_idle_sessions_lose_nothing_when_it_would_not_be_enough() -> None:
    pool = Pool(8, 16)
    pool.take(4)
    for id in "abc":
        pool.sessions.keep(id, WarmSession([0] * 16, pool.take(1)))
    assert not pool.make_room(5)
    assert not pool.make_room(4, spare="a")
    assert (pool.sessions.ids, pool.n_evictions) == (["a", "b", "c"], 0)
    assert pool.make_room(3, spare="a")
    assert (pool.sessions.ids, pool.n_evictions) == (["a"], 2)
