import pytest

from causalrn.server.engine.block_allocator import BlockAllocator
from causalrn.server.engine.kept_states import KeptStates


def test_pages_are_handed_out_once_and_come_back() -> None:
    allocator = BlockAllocator(5, 16)
    first, second = allocator.allocate(2), allocator.allocate(3)
    assert sorted(first + second) == [0, 1, 2, 3, 4]
    assert (allocator.n_free, allocator.n_used) == (0, 5)
    allocator.free(first)
    assert (allocator.n_free, allocator.n_used) == (2, 3)
    assert sorted(allocator.allocate(2)) == sorted(first)


def test_too_many_pages_takes_none() -> None:
    allocator = BlockAllocator(3, 16)
    with pytest.raises(MemoryError, match="asked for 4 pages, 3 of 3 are free"):
        allocator.allocate(4)
    assert allocator.n_free == 3


@pytest.mark.parametrize("twice", [False, True])
def test_a_page_that_nobody_uses_cannot_be_freed(twice: bool) -> None:
    allocator = BlockAllocator(3, 16)
    pages = allocator.allocate(1)
    if twice:
        allocator.free(pages)
    with pytest.raises(ValueError, match="nobody uses it"):
        allocator.free(pages if twice else [2])


@pytest.mark.parametrize(("n_tokens", "n_pages"), [(0, 0), (1, 1), (16, 1), (17, 2), (160, 10)])
def test_pages_for_rounds_up(n_tokens: int, n_pages: int) -> None:
    assert BlockAllocator(1, 16).pages_for(n_tokens) == n_pages


@pytest.mark.parametrize(("n_pages", "page_size"), [(0, 16), (1, 0)])
def test_an_empty_pool_is_refused(n_pages: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="at least one page"):
        BlockAllocator(n_pages, page_size)


def test_a_shared_page_is_free_when_its_last_user_gives_it_back() -> None:
    allocator = BlockAllocator(3, 16)
    pages = allocator.allocate(2)
    allocator.share(pages)
    allocator.free(pages)
    assert (allocator.n_used, allocator.n_users(pages[0])) == (2, 1)
    allocator.free(pages)
    assert allocator.n_used == 0
    with pytest.raises(ValueError, match="nobody uses or keeps it"):
        allocator.share(pages)


def test_kept_pages_are_free_and_reclaimed_longest_unused_first() -> None:
    allocator = BlockAllocator(4, 16)
    first, second, third = allocator.allocate(3)
    for page in (first, second, third):
        allocator.keep(page)
    allocator.free([first, second, third])  # `third` is given up before what it goes on from
    assert (allocator.n_free, allocator.n_blank, allocator.n_kept, allocator.n_used) == (4, 1, 3, 0)
    assert list(allocator.unused) == [third, second, first]
    allocator.share([second])
    assert (allocator.n_free, allocator.n_kept, allocator.n_used) == (3, 2, 1)
    with pytest.raises(MemoryError, match="asked for 2 pages, 1 of 4 are free"):
        allocator.allocate(2)
    assert allocator.reclaim() == third
    allocator.free([second])
    assert [allocator.reclaim(), allocator.reclaim()] == [first, second]
    assert allocator.n_blank == 4
    with pytest.raises(KeyError):
        allocator.reclaim()
    with pytest.raises(ValueError, match="nobody uses it"):
        BlockAllocator(1, 16).keep(0)


@pytest.mark.parametrize("way", ["freed", "reclaimed", "kept no longer"])
def test_a_page_that_becomes_blank_loses_its_row(way: str) -> None:
    states = KeptStates(1, 1)
    allocator = BlockAllocator(1, 16, states)
    pages = allocator.allocate(1)
    states.take(pages[0])
    if way != "freed":
        allocator.keep(pages[0])
    allocator.free(pages)
    if way != "freed":
        assert states.n_used == 1
    if way == "reclaimed":
        allocator.reclaim()
    elif way == "kept no longer":
        allocator.unkeep(pages[0])
    assert (allocator.n_blank, states.n_used) == (1, 0)
