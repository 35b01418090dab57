import pytest

from server.engine.block_allocator import BlockAllocator


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


def test_kept_pages_are_free_and_given_up_longest_unused_first_and_last_of_all() -> None:
    allocator = BlockAllocator(4, 16)
    evicted: list[int] = []
    allocator.on_evict = evicted.append
    first, second, third = allocator.allocate(3)
    for page in (first, second, third):
        allocator.keep(page)
    allocator.free([first, second, third])  # `third` is given up before what it goes on from
    assert (allocator.n_free, allocator.n_kept, allocator.n_used) == (4, 3, 0)
    allocator.share([second])
    assert (allocator.n_free, allocator.n_kept, allocator.n_used) == (3, 2, 1)
    allocator.allocate(1)
    assert evicted == []
    assert allocator.allocate(1) == [third]
    assert evicted == [third]
    allocator.free([second])
    assert allocator.allocate(2) == [first, second]
    assert evicted == [third, first, second]
    with pytest.raises(ValueError, match="nobody uses it"):
        BlockAllocator(1, 16).keep(0)
